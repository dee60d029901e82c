package provider_test

import (
	"testing"

	"google.golang.org/grpc/codes"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

// separateClasses are answered with the certificates and the key in files of their own, before the file with both.
func separateClasses(t *testing.T, s *storeDriver, m *material) []class {
	t.Helper()
	var classes []class
	for _, order := range chainOrders() {
		c, key := chainClass(t, s, m, order.file, order.want)
		c.want = split(c.want, m.chain(order.want), keyPEM(t, key))
		classes = append(classes, c)
	}
	plain, key := value(), keyPEM(t, m.rsaKey)
	plainVersion := s.set("plain", plain)
	rootFirst, noKey, onlyText := key+m.chain("RIL"), m.chain("LIR"), "anything"
	pemVersion := s.back("pem", devcloud.PEMFile, "text before\r\n"+rootFirst)
	noKeyVersion := s.back("no-key", devcloud.PEMFile, noKey)
	onlyTextVersion := s.back("only-text", devcloud.PEMFile, onlyText)
	pfx := m.pfx(t, pkcs12.LegacyDES, m.rsaKey, "RIL")
	pfxVersion := s.back("pfx", devcloud.PKCS12, base64Of(pfx))
	public, err := s.Vault.SetCertificate("public", devcloud.CertificateOptions{KeyType: devcloud.P256, NotExportable: true, Encoding: devcloud.LegacyPFX})
	must(t, err)

	publicChain := certPEMs(public.Leaf, public.CAs[0])
	secret := func(name, version, path, data string) answer { return files(of("secret", name, version, path, data)) }
	return append(classes,
		class{name: "a plain secret", objects: one("secret", "plain"), want: secret("plain", plainVersion, "plain", plain)},
		class{name: "a cert", objects: one("cert", "public"), want: files(of("cert", "public", public.Version, "public", certPEMs(public.Leaf)))},
		class{name: "a key", objects: one("key", "public"), want: files(of("key", "public", public.Version, "public", publicPEM(t, public.Leaf.PublicKey)))},
		class{
			name: "alias and mode", objects: one("secret", "pfx", "objectAlias: tls/web", `filePermission: "0440"`),
			want: files(
				file{"tls/web.crt", "0440", m.chain("LIR"), "secret/pfx", pfxVersion},
				file{"tls/web.key", "0440", key, "secret/pfx", pfxVersion},
				file{"tls/web", "0440", key + m.chain("LIR"), "secret/pfx", pfxVersion},
			),
		},
		class{
			name: "PEM", objects: one("secret", "pem"),
			want: split(secret("pem", pemVersion, "pem", "text before\r\n"+rootFirst), m.chain("RIL"), key),
		},
		class{name: "PEM without a key", objects: one("secret", "no-key"), want: split(secret("no-key", noKeyVersion, "no-key", noKey), noKey, "")},
		class{name: "text that should be PEM", objects: one("secret", "only-text"), want: split(secret("only-text", onlyTextVersion, "only-text", onlyText), "", "")},
		class{
			name: "a key that is not exportable", objects: one("secret", "public"),
			instead: split(secret("public", public.Version, "public", publicChain), publicChain, ""),
		},
		class{
			name: "PFX", objects: one("secret", "pfx", "objectFormat: pfx", "objectEncoding: base64"),
			want: split(secret("pfx", pfxVersion, "pfx", string(pfx)), "", ""),
		},
		class{name: "PFX in base64", objects: one("secret", "pfx", "objectFormat: pfx"), want: split(secret("pfx", pfxVersion, "pfx", base64Of(pfx)), "", "")},
		class{
			name: "PEM as PFX", objects: one("secret", "pem", "objectFormat: pfx"),
			want: split(secret("pem", pemVersion, "pem", "text before\r\n"+rootFirst), m.chain("RIL"), key),
		},
		class{name: "PFX in hex", objects: one("secret", "pfx", "objectEncoding: hex"), instead: refusal(codes.FailedPrecondition, `objects[0]: secret "pfx" of https://shop.vault.azure.net backs a certificate, which is written as PEM and is not hex; leave the encoding out, or ask for its PFX (objectFormat: pfx)`)},
		class{
			name: "two objects with one path", objects: objects(entry("secret", "pfx"), entry("secret", "plain", "objectAlias: pfx.key")),
			want:    files(append(split(secret("pfx", pfxVersion, "pfx", key+m.chain("LIR")), m.chain("LIR"), key).Files, of("secret", "plain", plainVersion, "pfx.key", plain))...),
			instead: invalid(`objects[1]: writes "pfx.key", which objects[0] writes already`), why: onePath,
		},
		class{
			name: "a history", objects: one("secret", "pfx", "objectVersionHistory: 2"),
			want: files(
				of("secret", "pfx/0", pfxVersion, "pfx/0.crt", m.chain("LIR")), of("secret", "pfx/0", pfxVersion, "pfx/0.key", key),
				of("secret", "pfx/0", pfxVersion, "pfx/0", key+m.chain("LIR")),
			),
		},
	)
}

// separateFileOrderClasses are separate files in the order of the file.
func separateFileOrderClasses(t *testing.T, s *storeDriver, m *material) []class {
	t.Helper()
	var classes []class
	for _, order := range chainOrders() {
		c, key := chainClass(t, s, m, order.file, order.file)
		c.want = split(c.want, m.chain(order.file), keyPEM(t, key))
		classes = append(classes, c)
	}
	return classes
}

// split is an answer with separate files before its only one.
func split(a answer, certs, key string) answer {
	crt, private := a.Files[0], a.Files[0]
	crt.Path, crt.Data = crt.Path+".crt", certs
	private.Path, private.Data = private.Path+".key", key
	return files(crt, private, a.Files[0])
}
