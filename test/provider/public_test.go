package provider_test

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/hex"
	"math/big"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"google.golang.org/grpc/codes"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

// publicClasses are keys and certificates, which have no secret part.
func publicClasses(t *testing.T, s *storeDriver, m *material) []class {
	t.Helper()
	var classes []class
	version := map[string]string{}
	add := func(name string, options devcloud.KeyOptions) {
		var err error
		version[name], err = s.Vault.SetKey(name, options)
		must(t, err)
	}
	key := func(name, path, data string, fields ...string) class {
		return class{name: "key " + path, objects: one("key", name, fields...), want: files(of("key", name, version[name], path, data))}
	}
	for name, private := range m.keys {
		add("key-"+name, devcloud.KeyOptions{Public: private.Public()})
		classes = append(classes, key("key-"+name, "key-"+name, publicPEM(t, private.Public())))
	}
	hsm := m.keys["rsa-2048"].Public().(*rsa.PublicKey)
	add("rsa-hsm", devcloud.KeyOptions{JWK: &azkeys.JSONWebKey{
		Kty: new(azkeys.KeyTypeRSAHSM), N: hsm.N.Bytes(), E: big.NewInt(int64(hsm.E)).Bytes(),
	}})
	point, err := m.keys["p-384"].Public().(*ecdsa.PublicKey).Bytes()
	must(t, err)
	add("ec-hsm", devcloud.KeyOptions{JWK: &azkeys.JSONWebKey{
		Kty: new(azkeys.KeyTypeECHSM), Crv: new(azkeys.CurveNameP384), X: point[1:49], Y: point[49:],
	}})
	// The generator of secp256k1 (SEC 2), as if it were a key.
	koblitz := unhex(t, "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8")
	add("p-256k", devcloud.KeyOptions{JWK: &azkeys.JSONWebKey{
		Kty: new(azkeys.KeyTypeEC), Crv: new(azkeys.CurveNameP256K), X: koblitz[:32], Y: koblitz[32:],
	}})
	add("symmetric", devcloud.KeyOptions{JWK: &azkeys.JSONWebKey{Kty: new(azkeys.KeyTypeOctHSM)}})
	add("disabled", devcloud.KeyOptions{Public: m.keys["p-521"].Public(), Disabled: true})
	add("rotated", devcloud.KeyOptions{Public: m.keys["p-521"].Public()})
	older := version["rotated"]
	add("rotated", devcloud.KeyOptions{Public: m.keys["p-256"].Public()})

	p384, p521, p256 := publicPEM(t, m.keys["p-384"].Public()), publicPEM(t, m.keys["p-521"].Public()), publicPEM(t, m.keys["p-256"].Public())
	provider := key("p-256k", "p-256k", koblitzPEM(t, koblitz))
	provider.want, provider.instead = answer{}, provider.want
	classes = append(classes, provider,
		key("rsa-hsm", "rsa-hsm", publicPEM(t, hsm)), key("ec-hsm", "ec-hsm", p384),
		key("rotated", "rotated", p256), key("ec-hsm", "jwt/signing.pem", p384, "objectAlias: jwt/signing.pem"),
		key("ec-hsm", "as-pem", p384, "objectAlias: as-pem", "objectFormat: pem"), key("ec-hsm", "as-pfx", p384, "objectAlias: as-pfx", "objectFormat: PFX"),
		class{name: "an older key", objects: one("key", "rotated", "objectVersion: "+older), want: files(of("key", "rotated", older, "rotated", p521))},
		class{name: "a mode of a key", objects: one("key", "rotated", `filePermission: "0600"`), want: files(file{"rotated", "0600", p256, "key/rotated", version["rotated"]})},
		class{name: "objectFormat pfx of a key", objects: one("key", "rotated", "objectFormat: pfx"), instead: invalid("objects[0].objectFormat: pfx is for secrets only")},
		class{name: "objectEncoding of a key", objects: one("key", "rotated", "objectEncoding: utf-8"), instead: invalid("objects[0].objectEncoding: is for secrets only")},
		class{name: "objectType Key", objects: one("Key", "rotated"), instead: invalid(`objects[0].objectType: "Key" is none of secret, key and cert`)},
		class{name: "a symmetric key", objects: one("key", "symmetric"), instead: refusal(codes.FailedPrecondition, `objects[0]: key "symmetric" of https://shop.vault.azure.net is a symmetric key, which has no public half`)},
		key("disabled", "disabled", p521), // Key Vault refuses only the use of such a key
		class{name: "a secret that is a key", objects: one("secret", "rotated"), instead: refusal(codes.NotFound, `objects[0]: secret "rotated"`+asWorkload+": HTTP 404 SecretNotFound: there is no such object; check the name, or recover it if it was deleted")},
	)
	return append(classes, certClasses(t, s, m, version["key-p-384"])...)
}

// certClasses are certificates without their keys, and the keys behind them.
func certClasses(t *testing.T, s *storeDriver, m *material, keyVersion string) []class {
	t.Helper()
	issued, err := s.Vault.SetCertificate("issued", devcloud.CertificateOptions{KeyType: devcloud.P256, Intermediates: 2})
	must(t, err)
	inPEM, err := s.Vault.SetCertificate("issued-pem", devcloud.CertificateOptions{ContentType: devcloud.PEMFile, PEM: []byte(keyPEM(t, m.rsaKey) + m.chain("LIR"))})
	must(t, err)
	hidden, err := s.Vault.SetCertificate("issued-hsm", devcloud.CertificateOptions{CER: m.certs['E'].Raw, ContentType: devcloud.PKCS12})
	must(t, err)
	leaf := certPEMs(issued.Leaf)
	plain := value()
	plainVersion := s.set("beside", plain)
	cert := func(what, name, version, path, data string, fields ...string) class {
		return class{name: what, objects: one("cert", name, fields...), want: files(of("cert", name, version, path, data))}
	}
	return []class{
		cert("a cert with a chain", "issued", issued.Version, "issued", leaf),
		cert("a cert of a version", "issued", issued.Version, "issued", leaf, "objectVersion: "+issued.Version),
		cert("a cert with an alias", "issued", issued.Version, "tls/cert.pem", leaf, "objectAlias: tls/cert.pem"),
		cert("a cert in PEM", "issued-pem", inPEM.Version, "issued-pem", m.chain("L"), "objectFormat: pem"),
		cert("a cert with its key in an HSM", "issued-hsm", hidden.Version, "issued-hsm", m.chain("E"), "objectFormat: PFX"),
		{name: "objectFormat pfx of a cert", objects: one("cert", "issued", "objectFormat: pfx"), instead: invalid("objects[0].objectFormat: pfx is for secrets only")},
		{name: "a cert that is a secret", objects: one("cert", "plain"), instead: refusal(codes.NotFound, `objects[0]: public certificate "plain"`+asWorkload+": HTTP 404 CertificateNotFound: there is no such object; check the name, or recover it if it was deleted")},
		{
			name: "all kinds in one class", objects: objects(
				entry("secret", "issued-pem", "objectAlias: tls/both.pem"), entry("cert", "issued-pem", "objectAlias: tls/cert.pem", "filePermission: '0444'"),
				entry("key", "issued-pem", "objectAlias: tls/public.pem"), entry("secret", "beside"), entry("key", "key-p-384"),
				entry("secret", "issued-pem", "objectVersionHistory: 2"), entry("cert", "issued"),
			),
			permission: 0o600,
			want: files(
				file{"tls/both.pem", "0600", inPEM.Value, "secret/issued-pem", inPEM.Version},
				file{"tls/cert.pem", "0444", m.chain("L"), "cert/issued-pem", inPEM.Version},
				file{"tls/public.pem", "0600", publicPEM(t, m.rsaKey.Public()), "key/issued-pem", inPEM.Version},
				file{"beside", "0600", plain, "secret/beside", plainVersion},
				file{"key-p-384", "0600", publicPEM(t, m.keys["p-384"].Public()), "key/key-p-384", keyVersion},
				file{"issued-pem/0", "0600", inPEM.Value, "secret/issued-pem/0", inPEM.Version},
				file{"issued", "0600", leaf, "cert/issued", issued.Version},
			),
		},
		{
			name: "cert and key of one certificate", objects: objects(entry("cert", "issued", "objectAlias: c"), entry("key", "issued", "objectAlias: k")),
			want: files(of("cert", "issued", issued.Version, "c", leaf), of("key", "issued", issued.Version, "k", publicPEM(t, issued.Leaf.PublicKey))),
		},
	}
}

// koblitzPEM is a public key on secp256k1, which crypto/x509 does not support (RFC 5480, SEC 2).
func koblitzPEM(t *testing.T, point []byte) string {
	t.Helper()
	var info struct {
		Algorithm struct{ ID, Curve asn1.ObjectIdentifier }
		Key       asn1.BitString
	}
	info.Algorithm.ID, info.Algorithm.Curve = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, asn1.ObjectIdentifier{1, 3, 132, 0, 10}
	info.Key = asn1.BitString{Bytes: append([]byte{4}, point...), BitLength: 8 * (1 + len(point))}
	der, err := asn1.Marshal(info)
	must(t, err)
	return blockPEM("PUBLIC KEY", der)
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	data, err := hex.DecodeString(s)
	must(t, err)
	return data
}
