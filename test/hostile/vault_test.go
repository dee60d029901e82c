package hostile_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/keyvault-csi/keyvault-csi/internal/forge"
	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// The owner of a vault chooses the content of a certificate. The result is an error or files, and others do not wait.
func TestCertificates(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	const (
		slow = "takes too long to decode: its key derivations have more than 100,000 iterations together; " +
			"export it with fewer (openssl pkcs12 -export -iter 2048), or use the content type application/x-pem-file"
		broken  = "is not a readable PKCS#12 file without a password"
		extreme = 1 << 31
	)
	for name, test := range map[string]struct {
		content []byte
		pem     bool
		problem string // empty: files
	}{
		"mac-of-2-31-iterations":   {forge.PFX{MAC: extreme, Outer: 1, Inner: 1}.DER(), false, slow},
		"mac-beyond-any-number":    {forge.PFX{MAC: 1<<63 - 1, Outer: 1, Inner: 1}.DER(), false, slow},
		"key-of-2-31-iterations":   {forge.PFX{Outer: 2048, Inner: extreme}.DER(), false, slow},
		"key-hidden-by-rc2-40":     {forge.PFX{Outer: 2048, Inner: extreme, RC2: 40}.DER(), false, slow},
		"key-hidden-by-rc2-128":    {forge.PFX{Outer: 2048, Inner: extreme, RC2: 128}.DER(), false, slow},
		"many-iterations-in-sum":   {forge.PFX{Outer: 60_000, Inner: 60_000}.DER(), false, slow},
		"many-iterations-in-pbmac": {forge.PFX{PBMAC1: extreme, Outer: 1, Inner: 1}.DER(), false, slow},
		"as-many-as-may-be":        {forge.PFX{MAC: 50_000, Outer: 1, Inner: 49_999}.DER(), false, broken},
		"half-a-megabyte-of-pfx":   {forge.PFX{Outer: 1, Inner: 1, Bulk: 512 << 10}.DER(), false, broken},
		"garbage-pfx":              {[]byte(strings.Repeat("\x30\x82\xff\xff"+marker, 1000)), false, broken},
		"nested-der":               {[]byte(strings.Repeat("\x30\x80", 100_000)), false, broken},
		"certificates-by-hundreds": {forge.Entangled(400), true, "holds more than 256 certificates"},
		"certificates-entangled":   {forge.Entangled(256), true, ""},
		"issuers-in-a-loop":        {forge.Loop(), true, ""},
		"names-by-thousands":       {forge.ManyNames(10_000), true, ""},
		"issuer-of-800000-bits":    {forge.HugeIssuer(800_000), true, ""},
		"key-of-16384-bits":        {forge.HugeKey(16 << 10), true, ""},
		"blocks-by-thousands":      {[]byte(strings.Repeat("-----BEGIN X-----\nAAAA\n-----END X-----\n", 18_000)), true, "is not readable PEM"},
		"dashes": {[]byte(strings.Repeat("-----BEGIN ", 60_000)), true,
			"has damaged PEM: block 1 of 60000 has a damaged line BEGIN; store the complete file again (az keyvault secret set --file)"},
	} {
		t.Run(name, func(t *testing.T) {
			o := devcloud.SecretOptions{ContentType: devcloud.PKCS12, Kid: "https://shop.vault.azure.net/keys/" + name + "/0123456789abcdef0123456789abcdef", Managed: true}
			value := base64.StdEncoding.EncodeToString(test.content)
			if test.pem {
				o.ContentType, value = devcloud.PEMFile, string(test.content)
			}
			s.Vault.SetSecret(name, value, o)
			v := node.Volume("certificate", "objects", "- {certificate: "+name+", chain: chain, key: key, cert: cert, ca: ca, pem: pem}")
			if test.problem == "" {
				s.attack(t, v, codes.OK, "")
				return
			}
			before := s.cpu(t)
			defer func() {
				// A decoding that takes ten seconds is abandoned, and continues in the background.
				if took := s.cpu(t) - before; took > 8 {
					t.Errorf("took %.1f s of CPU time", took)
				}
			}()
			s.attack(t, v, codes.FailedPrecondition,
				"objects[0]: certificate "+strconv.Quote(name)+" of "+node.VaultURL+" "+test.problem)
		})
	}
	s.verdict(t, "certificates")
}

// A file has exactly the value of the secret, also above the size limit of Key Vault, or it does not exist.
func TestValues(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	every := make([]byte, 0, 256)
	for r := range rune(256) {
		every = append(every, string(r)...)
	}
	for name, value := range map[string]string{
		"nul":              "a\x00b\x00" + marker,
		"control":          string(every) + marker,
		"empty":            "",
		"lines":            "a\r\nb\n\n",
		"right-to-left":    "\u202e" + marker,
		"of-25-kilobytes":  strings.Repeat("\x00", 25<<10),
		"of-150-kilobytes": strings.Repeat(marker+"\n", 12_000),
	} {
		t.Run(name, func(t *testing.T) {
			s.Vault.SetSecret(name, value, devcloud.SecretOptions{})
			v := node.Volume("value", "objects", "- {secret: "+name+", path: x}")
			if err := s.Publish(t.Context(), v); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(filepath.Join(s.Target(v), "x"))
			if err != nil || string(got) != value {
				t.Errorf("%d bytes, want %d: %v", len(got), len(value), err)
			}
			s.attack(t, v, codes.OK, "")
		})
	}
	s.Vault.SetSecret("of-2-megabytes", strings.Repeat(marker, 200_000), devcloud.SecretOptions{})
	s.attack(t, node.Volume("value", "objects", "- secret: of-2-megabytes"), codes.Unavailable, "objects[0]: *")
	for _, encoding := range []string{"hex", "base64"} {
		s.Vault.SetSecret("no-"+encoding, marker+"~", devcloud.SecretOptions{})
		s.attack(t, node.Volume("value", "objects", "- {secret: no-"+encoding+", encoding: "+encoding+"}"), codes.FailedPrecondition, "objects[0]: *")
	}
	s.verdict(t, "values")
}

// A vault with more secrets than a volume may have, and with invalid names.
func TestLists(t *testing.T) {
	t.Parallel()
	s := newFixture(t, "--max-volume-files=100", "--max-volume-bytes=64Ki")
	for i := range 300 {
		s.Vault.SetSecret("many-"+strconv.Itoa(i), marker, devcloud.SecretOptions{})
	}
	s.Vault.SetSecret("large", strings.Repeat(marker, 8<<10), devcloud.SecretOptions{})
	s.attack(t, node.Volume("list", "objects", "- secrets: {prefix: many-}"), codes.ResourceExhausted, "*")
	s.attack(t, node.Volume("list", "objects", "- secret: large"), codes.ResourceExhausted, "*")
	for name, code := range map[string]codes.Code{
		"..": codes.Unavailable, "%2e%2e": codes.Unavailable, "a b": codes.Unavailable, strings.Repeat("n", 200): codes.Unavailable,
		"a/../../keys/x": codes.OK, // for the SDK a secret "a", which does not exist
	} {
		odd := "odd" + strconv.Itoa(len(name))
		vault, err := s.Cloud.AddVault(odd, devcloud.VaultOptions{Tenant: node.Tenant})
		if err != nil {
			t.Fatal(err)
		}
		vault.Grant(node.WorkloadID)
		vault.SetSecret(name, marker, devcloud.SecretOptions{})
		text := "secrets[0]: *"
		if code == codes.OK {
			text = ""
		}
		s.attack(t, node.Volume("list", "vault", odd, "secrets", "*"), code, text)
	}
	s.verdict(t, "lists")
}

// An endless answer, and answers that are too short.
func TestAnswers(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	for name, f := range map[string]devcloud.Fault{
		"deep":      {Action: devcloud.Malformed, Service: devcloud.ServiceVault, Text: strings.Repeat("[", 900_000)},
		"nested":    {Action: devcloud.Malformed, Service: devcloud.ServiceVault, Text: strings.Repeat(`{"value":`, 100_000) + marker},
		"challenge": {Action: devcloud.Challenge, Service: devcloud.ServiceVault, Text: "Bearer " + strings.Repeat(`authorization="`+marker, 3000)},
		"token":     {Action: devcloud.Malformed, Service: devcloud.ServiceLogin, Text: `{"access_token":"` + strings.Repeat(marker, 80_000)},
	} {
		t.Run(name, func(t *testing.T) {
			clear, err := s.Cloud.Inject(f)
			if err != nil {
				t.Fatal(err)
			}
			defer clear()
			s.Vault.SetSecret("answer-"+name, marker, devcloud.SecretOptions{})
			v := node.Volume("answer", "objects", "- secret: answer-"+name)
			if name == "token" { // needs a new login
				v.Attributes["identity"] = "servicePrincipal"
				delete(v.Attributes, "clientID")
				v.Secret = map[string]string{"clientid": node.PrincipalID, "clientsecret": node.PrincipalSecret}
			}
			ctx := suite.Context(t)
			err = s.Publish(ctx, v)
			s.check(t, err, codes.Unavailable, "*")
		})
	}
	s.checkAlive(t)
	s.verdict(t, "answers of a vault")
}
