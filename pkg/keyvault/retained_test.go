package keyvault_test

import (
	"crypto/x509"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"
	"weak"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// A mounted or refused volume costs only the memory that is counted for it, not the 256 KiB that its attributes may
// have.
func TestAttributesAreNotRetained(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	fetch := func(attribute, list string) (attributes weak.Pointer[byte], err error) {
		padded := list + strings.Repeat(" ", 200_000)
		r, err := volume.Parse(map[string]string{
			attribute: padded, "vault": "shop", "identity": "servicePrincipal",
			volume.KubeletPodName: "web", volume.KubeletPodNamespace: "shop", volume.KubeletPodUID: "1", volume.KubeletServiceAccount: "web",
		}, map[string]string{"clientid": clientID, "clientsecret": clientSecret}, volume.Defaults{})
		if err != nil {
			t.Fatal(err)
		}
		r.Volume = list
		_, err = w.client.Fetch(t.Context(), r)
		return weak.Make(unsafe.StringData(padded)), err
	}
	for name, test := range map[string]struct {
		attribute, list string
		refused         bool
	}{
		"a secret":                {"secrets", "a", false},
		"no such version":         {"secrets", "a:0123456789abcdef0123456789abcdef", true},
		"no such secret":          {"secrets", "no-such-secret", true},
		"no such certificate":     {"certificates", "no-such-certificate", true},
		"a secret of the objects": {"objects", "- secret: a", false},
		"a selection":             {"objects", "- secrets: {prefix: a, tags: {t: v}}", false},
	} {
		text, err := fetch(test.attribute, test.list)
		if (err != nil) != test.refused {
			t.Errorf("%s: %v", name, err)
		}
		collected(t, name+": its attributes", text)
	}
	runtime.KeepAlive(w.client)
}

// What is counted for small objects is what they need, so that the limit of the cache is one of memory. Not parallel, because it
// measures the memory of the process.
func TestSmallObjectsAreCounted(t *testing.T) {
	const objects = 1000
	for name, tags := range map[string]map[string]string{"values": {}, "tagged": {"owner": "payments", "stage": "production"}, "absent": nil} {
		t.Run(name, func(t *testing.T) {
			w := newFixture(t, maxAge(time.Minute))
			var all []volume.Object
			for i := range objects {
				o := secret(fmt.Sprintf("secret-%05d", i))
				o.Optional = true
				if all = append(all, o); tags != nil {
					w.vault.SetSecret(o.Name, "a value of some bytes", devcloud.SecretOptions{Tags: tags})
				}
			}
			w.fetch(w.asServicePrincipal(all...))
			w.client.CloseIdleConnections()
			counted, before := w.client.Cached(), heap()
			w.later(time.Hour)
			w.client.Tidy()
			released := before - heap()
			if w.client.Cached() > 0 || released > counted || released < counted/2 {
				t.Errorf("%d bytes for each object were counted, and %d released", counted/objects, released/objects)
			}
			runtime.KeepAlive(all)
		})
	}
}

// heap is how much memory is used after a garbage collection. A sync.Pool keeps its content for one.
func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// collected waits until the garbage collector has found nothing that refers to the bytes. The goroutine of a read, which refers to
// its volume, may end after its caller.
func collected(t *testing.T, what string, content weak.Pointer[byte]) {
	t.Helper()
	suite.Eventually(t, what+" leave the memory", func() bool {
		runtime.GC()
		return content.Value() == nil
	})
}

// The credentials of a service principal are dropped after the read. Its login stays as long as others do.
func TestClientCertificateIsNotRetained(t *testing.T) {
	t.Parallel()
	for name, refused := range map[string]bool{"plain.pem": false, "plain.pfx": false, "foreign.pem": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newFixture(t)
			w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
			w.must(w.AddIdentity(devcloud.Identity{Tenant: tenantID, ClientID: clientID, Certificates: []*x509.Certificate{firstCertificate(t, "plain.pem")}}))
			fetch := func() weak.Pointer[byte] {
				content := loginFile(t, name)
				if _, err := w.client.Fetch(t.Context(), byCertificate(content, "")); (err != nil) != refused {
					t.Error(err)
				}
				return weak.Make(unsafe.SliceData(content))
			}
			content := fetch()
			w.knows("after a fetch", 1, 0)
			collected(t, "the content of the certificate", content)
			runtime.KeepAlive(w.client)
		})
	}
}

// What a vault answers is counted, also where Key Vault has a few characters, and what is not kept is not: the private part of a key, and the
// rest of an identifier.
func TestHugeAnswersAreCounted(t *testing.T) {
	t.Parallel()
	const huge = 600_000
	filler := strings.Repeat("A", huge)
	key := func(members string) string { return `{"key":{"kty":"RSA","e":"AQAB",` + members + `}}` }
	for name, test := range map[string]struct {
		path, text string
		counted    int
	}{
		"a modulus":           {"/keys/a", key(`"n":"` + filler + `","k":"` + filler[:huge/4] + `"`), huge / 4 * 3},
		"a curve":             {"/keys/a", key(`"n":"AQAB","crv":"` + filler + `"`), huge},
		"a value":             {"/secrets/a", `{"value":"` + filler + `","id":"https://shop.vault.azure.net/secrets/a/1"}`, huge},
		"a version":           {"/secrets/a", `{"value":"x","id":"https://shop.vault.azure.net/secrets/a/` + filler + `"}`, huge},
		"a query":             {"/secrets/a", `{"value":"x","id":"https://shop.vault.azure.net/secrets/a/1?` + filler + `"}`, 0},
		"a tag":               {"/secrets/a", `{"value":"x","id":"https://shop.vault.azure.net/secrets/a/1","tags":{"t":"` + filler + `"}}`, huge},
		"a tag without value": {"/secrets/a", `{"value":"x","id":"https://shop.vault.azure.net/secrets/a/1","tags":{"` + filler + `":null}}`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newFixture(t)
			w.vault.SetSecret("other", "x", devcloud.SecretOptions{})
			w.fetch(w.asServicePrincipal(secret("other"))) // logs in
			w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Path: test.path, Action: devcloud.Malformed, Text: test.text})
			o := secret("a")
			if strings.HasPrefix(test.path, "/keys") {
				o.Kind, o.Outputs = volume.KindKey, []volume.Output{{Part: volume.PartPublicKey, Path: "a"}}
			}
			before := w.client.Cached()
			w.fetch(w.asServicePrincipal(o))
			if got := w.client.Cached() - before; got < test.counted || got > test.counted+2000 {
				t.Errorf("%d bytes are counted, want %d and a little", got, test.counted)
			}
		})
	}
}
