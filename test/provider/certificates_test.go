package provider_test

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

const pfxFolder = "../../pkg/keyvault/certificate/testdata/"

// pfxClasses are secrets behind certificates in PKCS#12: the key as PKCS#8, then the certificates.
func pfxClasses(t *testing.T, s *storeDriver, m *material) []class {
	t.Helper()
	var classes []class
	add := func(name string, pfx []byte, pem string, readable bool) {
		version := s.back(name, devcloud.PKCS12, base64Of(pfx))
		file := func(data string) answer { return files(of("secret", name, version, name, data)) }
		c := class{name: name, objects: one("secret", name), want: file(pem)}
		if !readable {
			c.want, c.instead = answer{}, c.want
		}
		as := c
		as.name, as.objects = name+" as PEM", one("secret", name, "objectFormat: PEM")
		classes = append(
			classes, c, as,
			class{name: name + " as base64", objects: one("secret", name, "objectFormat: pfx"), want: file(base64Of(pfx))},
			class{name: name + " as PFX", objects: one("secret", name, "objectFormat: PFX", "objectEncoding: base64"), want: file(string(pfx))},
		)
	}
	for _, encryption := range []struct {
		name     string
		encoder  *pkcs12.Encoder
		readable bool // by the provider
	}{
		{"rc2", pkcs12.LegacyRC2, true}, {"3des", pkcs12.LegacyDES, true}, {"aes", pkcs12.Modern2023, false}, {"plain", pkcs12.Passwordless, false},
	} {
		add("pfx-rsa-"+encryption.name, m.pfx(t, encryption.encoder, m.rsaKey, "LIR"), keyPEM(t, m.rsaKey)+m.chain("LIR"), encryption.readable)
		add("pfx-ec-"+encryption.name, m.pfx(t, encryption.encoder, m.ecKey, "ES"), keyPEM(t, m.ecKey)+m.chain("ES"), encryption.readable)
	}
	for name, key := range m.keys {
		if key == m.rsaKey || key == m.ecKey {
			continue
		}
		leaf, _ := m.issue(t, name, key, nil, nil)
		pfx, err := pkcs12.LegacyDES.Encode(key, leaf, nil, "")
		must(t, err)
		version := s.back("self-"+name, devcloud.PKCS12, base64Of(pfx))
		classes = append(classes, class{
			name: "self-signed " + name, objects: one("secret", "self-"+name), want: files(of("secret", "self-"+name, version, "self-"+name, keyPEM(t, key)+certPEMs(leaf))),
		})
	}
	return append(classes, unreadableClasses(t, s, m)...)
}

// unreadableClasses are PKCS#12 files that the provider cannot write as PEM, and some that nobody can.
func unreadableClasses(t *testing.T, s *storeDriver, m *material) []class {
	t.Helper()
	koblitz, err := os.ReadFile(pfxFolder + "pfx/secp256k1-plain.pfx")
	must(t, err)
	version := s.back("koblitz", devcloud.PKCS12, base64Of(koblitz))
	public, err := s.Vault.SetCertificate("public", devcloud.CertificateOptions{Intermediates: 1, NotExportable: true, Encoding: devcloud.LegacyPFX})
	must(t, err)
	bare, err := os.ReadFile(pfxFolder + "pfx/ec-p256-bare.pfx")
	must(t, err)
	bareVersion, described := s.back("bare", devcloud.PKCS12, base64Of(bare)), node.ReadFile(t, pfxFolder+"pfx/ec-p256-bare.pem")
	s.back("damaged", devcloud.PKCS12, base64Of(random(100)))
	s.back("no-base64", devcloud.PKCS12, "!")
	typeless := s.back("typeless", "text/plain", "anything")
	fails := func(name, text string, fields ...string) class {
		return class{
			name: "pfx " + name + " " + strings.Join(fields, " "), objects: one("secret", name, fields...),
			instead: refusal(codes.FailedPrecondition, `objects[0]: secret "`+name+`" of https://shop.vault.azure.net `+text),
		}
	}
	return []class{
		{name: "PFX on P-256K", objects: one("secret", "koblitz", "objectFormat: pfx", "objectEncoding: base64"), want: files(of("secret", "koblitz", version, "koblitz", string(koblitz)))},
		{
			name: "a key that is not exportable", objects: one("secret", "public"),
			instead: files(of("secret", "public", public.Version, "public", certPEMs(append([]*x509.Certificate{public.Leaf}, public.CAs...)...))),
		},
		{name: "a certificate of another type", objects: one("secret", "typeless"), instead: files(of("secret", "typeless", typeless, "typeless", "anything"))},
		{
			name: "a key on P-256K", objects: one("secret", "koblitz"),
			instead: files(of("secret", "koblitz", version, "koblitz", node.ReadFile(t, pfxFolder+"pfx/secp256k1-plain.pem"))),
		},
		{name: "an EC key without its public half", objects: one("secret", "bare"), instead: files(of("secret", "bare", bareVersion, "bare", completed(t, described)))},
		fails("damaged", "is not a readable PKCS#12 file without a password"),
		fails("no-base64", "is not the base64 text of a PKCS#12 file"),
		fails("pfx-rsa-3des", "backs a certificate, which is written as PEM and is not base64; leave the encoding out, or ask for its PFX (objectFormat: pfx)", "objectEncoding: base64"),
		fails("pfx-rsa-3des", "backs a certificate, which is written as PEM and is not hex; leave the encoding out, or ask for its PFX (objectFormat: pfx)", "objectEncoding: hex"),
	}
}

// completed is a PEM whose key, the first block, is written again by the standard library, as the provider does.
func completed(t *testing.T, text string) string {
	t.Helper()
	block, rest := pem.Decode([]byte(text))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	must(t, err)
	return keyPEM(t, key) + string(rest)
}

// pemClasses are secrets behind certificates in PEM, which are answered as they are stored.
func pemClasses(t *testing.T, s *storeDriver, m *material) []class {
	t.Helper()
	koblitz, err := os.ReadFile(pfxFolder + "pem/secp256k1.pem")
	must(t, err)
	pair := keyPEM(t, m.rsaKey) + m.chain("LIR")
	var classes []class
	for name, text := range map[string]string{
		"as issued":              pair,
		"with CRLF":              strings.ReplaceAll(pair, "\n", "\r\n"),
		"with text before":       "Bag Attributes\n    friendlyName: web\n" + pair,
		"with text behind":       pair + "# the end",
		"without a last newline": strings.TrimSuffix(pair, "\n"),
		"key last":               m.chain("LIR") + keyPEM(t, m.rsaKey),
		"root first":             keyPEM(t, m.rsaKey) + m.chain("RIL"),
		"a gap":                  keyPEM(t, m.rsaKey) + m.chain("LR"),
		"without a key":          m.chain("LIR"),
		"P-256K":                 string(koblitz),
		"no PEM":                 "anything",
		"empty":                  "",
	} {
		object := "pem-" + strings.ToLower(strings.ReplaceAll(name, " ", "-"))
		version := s.back(object, devcloud.PEMFile, text)
		classes = append(classes, class{name: "PEM " + name, objects: one("secret", object), want: files(of("secret", object, version, object, text))})
		if name == "root first" {
			classes = append(classes,
				class{name: "PEM as PFX", objects: one("secret", object, "objectFormat: pfx"), want: files(of("secret", object, version, object, text))},
				class{name: "PEM as PEM", objects: one("secret", object, "objectFormat: pem", "objectEncoding: utf-8"), want: files(of("secret", object, version, object, text))},
				class{
					name: "PEM in hex", objects: one("secret", object, "objectEncoding: hex"),
					instead: refusal(codes.FailedPrecondition, `objects[0]: secret "`+object+`" of https://shop.vault.azure.net is not hex; correct the value or the encoding`),
				},
			)
		}
	}
	return classes
}

// chainOrders returns the orders of the certificates in a PKCS#12 file, and the provider's order of its PEM: each certificate before its
// authority. If these do not lead through all of them, because one is missing or there twice, the order of the file.
func chainOrders() []chainOrder {
	return []chainOrder{
		{"L", "L"}, {"E", "E"},
		{"LI", "LI"}, {"IL", "LI"}, {"ES", "ES"}, {"SE", "ES"},
		{"LIR", "LIR"}, {"RIL", "LIR"}, {"IRL", "LIR"}, {"LRI", "LIR"}, {"ILR", "LIR"}, {"RLI", "LIR"},
		{"LR", "LR"}, {"RL", "RL"}, {"LIS", "LIS"}, {"SLI", "SLI"}, {"SRIL", "SRIL"}, {"LIRS", "LIRS"}, {"LIIR", "LIIR"}, {"RIIL", "RIIL"},
	}
}

// chainOrder is a row of that table.
type chainOrder struct{ file, want string }

// chainClasses are the orders of a chain.
func chainClasses(t *testing.T, s *storeDriver, m *material) []class {
	t.Helper()
	var classes []class
	for _, order := range chainOrders() {
		c, _ := chainClass(t, s, m, order.file, order.want)
		classes = append(classes, c)
	}
	return classes
}

// fileOrderClasses are the same files, without an order of their own.
func fileOrderClasses(t *testing.T, s *storeDriver, m *material) []class {
	t.Helper()
	var classes []class
	for _, order := range chainOrders() {
		c, _ := chainClass(t, s, m, order.file, order.file)
		classes = append(classes, c)
	}
	return classes
}

// chainClass adds a certificate with a PKCS#12 file in an order.
func chainClass(t *testing.T, s *storeDriver, m *material, inFile, want string) (c class, key crypto.Signer) {
	t.Helper()
	key = m.rsaKey
	if strings.Contains(inFile, "E") {
		key = m.ecKey
	}
	name := "chain-" + strings.ToLower(inFile)
	version := s.back(name, devcloud.PKCS12, base64Of(m.pfx(t, pkcs12.LegacyDES, key, inFile)))
	return class{
		name: "chain " + inFile, objects: one("secret", name), want: files(of("secret", name, version, name, keyPEM(t, key)+m.chain(want))),
	}, key
}
