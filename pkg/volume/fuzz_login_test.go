package volume_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// FuzzTokens: whatever the tokens of the kubelet are, a pod never becomes another one, and no error repeats any of them. The
// text is one of the secrets or, as on older clusters, one of the attributes, where a user could write it.
func FuzzTokens(f *testing.F) {
	mine := jwt(`{"sub":"system:serviceaccount:shop:web"}`)
	for _, text := range []string{
		podTokens(),
		tokens(audience, jwt(`{"sub":"system:serviceaccount:shop:other"}`)),
		tokens(audience, jwt(`{"SUB":"system:serviceaccount:shop:web"}`)),
		tokens(audience, jwt(`{"sub":"x","sub":"system:serviceaccount:shop:web"}`)),
		tokens(audience, "eyJplanted"), tokens(audience, ".."), tokens(audience, "a.b.c.d"), tokens("other", mine),
		`{"` + audience + `":{"token":"planted"},"` + audience + `":{"Token":"` + mine + `"}}`,
		`{"` + audience + `":null}`, `{"` + audience + `":["planted"]}`, `[]`, `"planted"`, `{`, ``,
		strings.Repeat("[", 20000), strings.Repeat(`{"a":`, 9999),
		`{"` + audience + `":{"token":"` + strings.Repeat("A", 70000) + `.e30.planted"}}`,
	} {
		f.Add(text, true)
		f.Add(text, false)
	}
	f.Fuzz(func(t *testing.T, text string, amongSecrets bool) {
		attributes, secrets := valid(pairs{volume.KubeletTokens: "-"}), pairs{}
		if amongSecrets {
			secrets[volume.KubeletTokens] = text
		} else {
			attributes[volume.KubeletTokens] = text
		}
		var request volume.Request
		var err error
		took := suite.CPUTime(func() { request, err = volume.Parse(attributes, secrets, volume.Defaults{}) })
		if took > patience {
			t.Fatalf("%d bytes took %v", len(text), took)
		}
		if err != nil {
			checkFuzzedError(t, err)
			checkNotRepeated(t, err, text)
			return
		}
		token := string(request.Identity.Assertion.Reveal())
		parts := strings.Split(token, ".")
		if len(parts) != 3 {
			t.Fatalf("%q passed for a token", token)
		}
		payload, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err != nil || !strings.Contains(unescaped(payload), "system:serviceaccount:shop:web") {
			t.Fatalf("a token of somebody else passed: %q", payload)
		}
		if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Fatalf("%q would break a header", token)
		}
	})
}

// unescaped removes the escapes of JSON from a claim.
func unescaped(payload []byte) string {
	text := string(payload)
	for c := rune(' '); c <= '~'; c++ {
		const digits = "0123456789abcdef"
		code := "00" + string(digits[c>>4]) + string(digits[c&15])
		text = strings.ReplaceAll(text, `\u`+code, string(c))
		text = strings.ReplaceAll(text, `\u`+strings.ToUpper(code), string(c))
	}
	return strings.ReplaceAll(text, `\/`, "/")
}

// FuzzSecretRef: whatever a Secret holds under the keys of a login, or similar ones, no error repeats a value.
func FuzzSecretRef(f *testing.F) {
	pfx := base64.StdEncoding.EncodeToString([]byte("0\x82planted-certificate"))
	for _, s := range [][4]string{
		{"clientsecret", plantedSecret, "clientid", clientID},
		{"ClientSecret", plantedSecret + "\n", "CLIENTSECRET", "planted other"},
		{"clientcertificate", plantedPEM, "clientcertificatepassword", plantedPassword},
		{"clientcertificate", pfx, "tenantid", "auto"},
		{"clientcertificate", "planted, and neither", "tenantid", "contoso.example"},
		{"client-secret", plantedSecret, "clientid", "planted"},
		{"cl\u0130entsecret", plantedSecret, "clien\u017fecret", "planted"},
		{"clientid", "\x00\x1b[31mplanted", "tenantid", "planted\ntenant"},
		{volume.KubeletTokens, tokens(audience, jwt(`{"sub":"planted"}`)), "clientsecret", "x"},
		{strings.Repeat("clientsecret", 9), plantedSecret, "", ""},
	} {
		f.Add(s[0], s[1], s[2], s[3], true)
		f.Add(s[0], s[1], s[2], s[3], false)
	}
	f.Fuzz(func(t *testing.T, key1, value1, key2, value2 string, named bool) {
		attributes := valid()
		if !named {
			delete(attributes, "clientID")
		}
		secrets := pairs{key1: value1, key2: value2}
		var request volume.Request
		var err error
		took := suite.CPUTime(func() { request, err = volume.Parse(attributes, secrets, volume.Defaults{}) })
		if took > patience {
			t.Fatalf("%d bytes took %v", len(value1)+len(value2), took)
		}
		if err != nil {
			checkFuzzedError(t, err)
			for _, value := range []string{value1, value2} {
				checkNotRepeated(t, err, value, key1, key2)
			}
			return
		}
		checkFuzzedRequest(t, request)
		id := request.Identity
		if id.Kind == volume.ServicePrincipal && len(id.ClientSecret.Reveal())+len(id.ClientCertificate.Reveal()) == 0 {
			t.Fatalf("a login without anything to log in with: %+v", id)
		}
	})
}

// checkNotRepeated searches an error for the beginning and the end of a value. It ignores plain words, because errors consist
// of them, and what every error may name, such as the keys of the Secret.
func checkNotRepeated(t *testing.T, err error, value string, keys ...string) {
	t.Helper()
	const (
		long  = 12
		named = `csi.storage.k8s.io/serviceAccount.tokens: "api://AzureADTokenExchange" "shop/web" nodePublishSecretRef[clientcertificate] ` +
			`nodePublishSecretRef[clientsecret] nodePublishSecretRef[clientcertificatepassword] nodePublishSecretRef[tenantid]`
	)
	if len(value) < long {
		return
	}
	for _, piece := range []string{value[:long], value[len(value)-long:]} {
		telling := strings.ContainsFunc(piece, func(r rune) bool { return r != ' ' && r != ',' && (r|0x20 < 'a' || r|0x20 > 'z') })
		if telling && strings.Contains(err.Error(), piece) && !strings.Contains(named+" "+strings.Join(keys, " "), piece) {
			t.Fatalf("%q repeats %q", err, piece)
		}
	}
}
