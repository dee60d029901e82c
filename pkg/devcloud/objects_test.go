package devcloud_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

func certs(c *devcloud.Certificate) []*x509.Certificate { return []*x509.Certificate{c.Leaf} }

func objectClients(t *testing.T, cloud *devcloud.Cloud, vault *devcloud.Vault) (*azcertificates.Client, *azkeys.Client) {
	t.Helper()
	options := once(t, cloud)
	cred := secretCredential(t, options, tenant, clientID, password)
	certificates, err := azcertificates.NewClient(vault.URL(), cred, &azcertificates.ClientOptions{ClientOptions: options})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := azkeys.NewClient(vault.URL(), cred, &azkeys.ClientOptions{ClientOptions: options})
	if err != nil {
		t.Fatal(err)
	}
	return certificates, keys
}

type equal interface{ Equal(crypto.PublicKey) bool }

// A certificate can be read as certificate, as secret and as key, all with one version.
func TestCertificates(t *testing.T) {
	t.Parallel()
	cloud, vault := newCloud(t, devcloud.Options{})
	secrets := defaultClient(t, cloud, vault)
	certificates, keys := objectClients(t, cloud, vault)
	for name, opts := range map[string]devcloud.CertificateOptions{
		"rsa":     {Intermediates: 1},
		"legacy":  {Encoding: devcloud.LegacyPFX, Order: devcloud.LeafFirst, KeyType: devcloud.P384},
		"plain":   {Encoding: devcloud.PlainPFX, KeyType: devcloud.P521, SelfSigned: true},
		"pem":     {ContentType: devcloud.PEMFile, KeyType: devcloud.P256, Intermediates: 2},
		"pem-top": {ContentType: devcloud.PEMFile, KeyType: devcloud.P256, Order: devcloud.RootFirst, Tags: map[string]string{"a": "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			made, err := vault.SetCertificate(name, opts)
			if err != nil {
				t.Fatal(err)
			}
			secret, err := secrets.GetSecret(t.Context(), name, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			certificate, err := certificates.GetCertificate(t.Context(), name, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			key, err := keys.GetKey(t.Context(), name, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			if string(*certificate.KID) != string(*key.Key.KID) || string(*secret.KID) != string(*key.Key.KID) ||
				string(*certificate.SID) != string(*secret.ID) || certificate.ID.Version() != made.Version ||
				!*secret.Managed || !*key.Managed || len(certificate.X509Thumbprint) != 20 {
				t.Errorf("ids: %v %v %v", *certificate.ID, *secret.ID, *key.Key.KID)
			}
			if !bytes.Equal(certificate.CER, made.Leaf.Raw) || *secret.Value != made.Value ||
				*secret.ContentType != *certificate.Policy.SecretProperties.ContentType || !*certificate.Policy.KeyProperties.Exportable {
				t.Error("the parts do not fit")
			}
			if public, _ := made.Key.Public().(equal); !public.Equal(publicKey(t, key.Key)) {
				t.Error("the key is not the certificate's")
			}
			checkContent(t, *secret.Value, *secret.ContentType, made, opts)
		})
	}
}

// checkContent reads the secret with other code than that which wrote it, and checks the order.
func checkContent(t *testing.T, value, contentType string, made *devcloud.Certificate, opts devcloud.CertificateOptions) {
	t.Helper()
	var key any
	var got []*x509.Certificate
	if contentType == devcloud.PKCS12 {
		pfx, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			t.Fatal(err)
		}
		var first *x509.Certificate
		if key, first, got, err = pkcs12.DecodeChain(pfx, ""); err != nil {
			t.Fatal(err)
		}
		got = append([]*x509.Certificate{first}, got...)
	} else {
		for block, rest := pem.Decode([]byte(value)); block != nil; block, rest = pem.Decode(rest) {
			if block.Type == "PRIVATE KEY" {
				key, _ = x509.ParsePKCS8PrivateKey(block.Bytes)
				continue
			}
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, cert)
		}
	}
	if signer, _ := key.(crypto.Signer); !signer.Public().(equal).Equal(made.Leaf.PublicKey) {
		t.Error("the private key is not the leaf's")
	}
	want := append([]*x509.Certificate{made.Leaf}, made.CAs...)
	for i, parent := range made.CAs {
		if err := want[i].CheckSignatureFrom(parent); err != nil {
			t.Error(err)
		}
	}
	if len(made.CAs) != opts.Intermediates+1 && !opts.SelfSigned {
		t.Errorf("%d CAs", len(made.CAs))
	}
	rootFirst := opts.Order == devcloud.RootFirst || opts.Order == devcloud.IssuedOrder && contentType == devcloud.PKCS12
	for i, cert := range want {
		if rootFirst {
			i = len(want) - 1 - i
		}
		if i >= len(got) || !got[i].Equal(cert) {
			t.Errorf("%s is not at place %d of %d", cert.Subject, i, len(got))
		}
	}
}

func publicKey(t *testing.T, key *azkeys.JSONWebKey) crypto.PublicKey {
	t.Helper()
	if *key.Kty == azkeys.KeyTypeRSA {
		return &rsa.PublicKey{N: new(big.Int).SetBytes(key.N), E: int(new(big.Int).SetBytes(key.E).Int64())}
	}
	curve := map[azkeys.CurveName]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[*key.Crv]
	public, err := ecdsa.ParseUncompressedPublicKey(curve, append(append([]byte{4}, key.X...), key.Y...))
	if err != nil {
		t.Fatal(err)
	}
	return public
}

func TestImportAndExport(t *testing.T) {
	t.Parallel()
	cloud, vault := newCloud(t, devcloud.Options{})
	secrets := defaultClient(t, cloud, vault)
	for _, source := range []devcloud.CertificateOptions{
		{KeyType: devcloud.P256, Intermediates: 1},
		{KeyType: devcloud.P256, Intermediates: 1, ContentType: devcloud.PEMFile},
	} {
		made, err := vault.SetCertificate("source", source)
		if err != nil {
			t.Fatal(err)
		}
		var opts devcloud.CertificateOptions
		if source.ContentType == devcloud.PEMFile {
			opts.PEM = []byte(made.Value)
		} else {
			opts.PFX, _ = base64.StdEncoding.DecodeString(made.Value)
		}
		imported, err := vault.SetCertificate("imported", opts)
		if err != nil {
			t.Fatal(err)
		}
		if !imported.Leaf.Equal(made.Leaf) || imported.Value != made.Value || len(imported.CAs) != 2 {
			t.Errorf("%+v", imported)
		}
		if _, err := vault.Rotate(devcloud.Certificates, "imported"); err == nil {
			t.Error("an imported certificate cannot be issued again")
		}

		source.NotExportable = true
		kept, err := vault.SetCertificate("kept", source)
		if err != nil {
			t.Fatal(err)
		}
		if secret, err := secrets.GetSecret(t.Context(), "kept", "", nil); err != nil || *secret.Value != kept.Value {
			t.Error(err)
		}
		pfx, _ := base64.StdEncoding.DecodeString(kept.Value)
		if source.ContentType == devcloud.PEMFile && strings.Contains(kept.Value, "PRIVATE") {
			t.Error("the key is in the PEM file")
		} else if _, _, _, err := pkcs12.DecodeChain(pfx, ""); err == nil {
			t.Error("the key is in the PFX")
		}
	}
	for name, opts := range map[string]devcloud.CertificateOptions{
		"no PFX":       {PFX: []byte("x")},
		"no key":       {PEM: []byte("")},
		"content type": {ContentType: "text/plain", KeyType: devcloud.P256},
		"encoding":     {Encoding: "rot13", KeyType: devcloud.P256},
		"key type":     {KeyType: "P-1"},
	} {
		if _, err := vault.SetCertificate("bad", opts); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A certificate is disabled, rotated and deleted with its secret. Disabled, it can still be read, like a key.
func TestLifeOfACertificate(t *testing.T) {
	t.Parallel()
	cloud, vault := newCloud(t, devcloud.Options{})
	secrets := defaultClient(t, cloud, vault)
	certificates, keys := objectClients(t, cloud, vault)
	first, err := vault.SetCertificate("web", devcloud.CertificateOptions{KeyType: devcloud.P256, Tags: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	second, err := vault.Rotate(devcloud.Certificates, "web")
	if err != nil {
		t.Fatal(err)
	}
	latest, err := certificates.GetCertificate(t.Context(), "web", "", nil)
	if err != nil || latest.ID.Version() != second || second == first.Version || *latest.Tags["a"] != "b" {
		t.Fatalf("%v %v", latest, err)
	}
	if old, err := certificates.GetCertificate(t.Context(), "web", first.Version, nil); err != nil || !bytes.Equal(old.CER, first.Leaf.Raw) {
		t.Error("the first version is gone")
	}
	if err := vault.Disable(devcloud.Certificates, "web", ""); err != nil {
		t.Fatal(err)
	}
	_, err = secrets.GetSecret(t.Context(), "web", "", nil)
	if got := refusalOf(t, err); got.Inner != "SecretDisabled" {
		t.Errorf("%+v", got)
	}
	if shown, err := certificates.GetCertificate(t.Context(), "web", "", nil); err != nil || *shown.Attributes.Enabled {
		t.Errorf("%v", err)
	}
	if err := vault.Enable(devcloud.Certificates, "web", second); err != nil {
		t.Fatal(err)
	}
	if _, err := secrets.GetSecret(t.Context(), "web", "", nil); err != nil {
		t.Error(err)
	}
	if err := vault.Delete(devcloud.Certificates, "web"); err != nil {
		t.Fatal(err)
	}
	_, err = certificates.GetCertificate(t.Context(), "web", "", nil)
	if got := refusalOf(t, err); got.Code != "CertificateNotFound" || !strings.HasPrefix(got.Message, "A certificate with (name/id) web was not found in this key vault.") {
		t.Errorf("%+v", got)
	}
	_, err = keys.GetKey(t.Context(), "web", "", nil)
	if got := refusalOf(t, err); got.Code != "KeyNotFound" {
		t.Errorf("%+v", got)
	}
	_, err = secrets.GetSecret(t.Context(), "web", "", nil)
	if got := refusalOf(t, err); got.Code != "SecretNotFound" {
		t.Errorf("%+v", got)
	}
	for _, err := range []error{
		vault.Delete(devcloud.Certificates, "web"), vault.Disable(devcloud.Secrets, "nothing", ""), vault.Enable(devcloud.Keys, "web", "1"),
	} {
		if err == nil || !strings.HasPrefix(err.Error(), "devcloud: no ") {
			t.Errorf("%v", err)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	cloud, vault := newCloud(t, devcloud.Options{})
	_, keys := objectClients(t, cloud, vault)
	version, err := vault.SetKey("sign", devcloud.KeyOptions{KeyType: devcloud.P256, Tags: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	key, err := keys.GetKey(t.Context(), "sign", version, nil)
	if err != nil || key.Managed != nil || *key.Tags["a"] != "b" || *key.Key.Kty != azkeys.KeyTypeEC || key.Key.D != nil {
		t.Fatalf("%+v %v", key, err)
	}
	strange := azkeys.CurveNameP256K
	if _, err := vault.SetKey("koblitz", devcloud.KeyOptions{JWK: &azkeys.JSONWebKey{Crv: &strange}}); err != nil {
		t.Fatal(err)
	}
	if key, err := keys.GetKey(t.Context(), "koblitz", "", nil); err != nil || *key.Key.Crv != strange {
		t.Errorf("%+v %v", key, err)
	}
	vault.Deny(clientID, devcloud.KeysGet)
	_, err = keys.GetKey(t.Context(), "sign", "", nil)
	if got := refusalOf(t, err); got.Inner != "ForbiddenByPolicy" || !strings.Contains(got.Message, "does not have keys get permission") {
		t.Errorf("%+v", got)
	}
	count := 0
	for pages := keys.NewListKeyPropertiesPager(nil); pages.More(); {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		count += len(page.Value)
	}
	if count != 2 {
		t.Errorf("%d keys", count)
	}
}
