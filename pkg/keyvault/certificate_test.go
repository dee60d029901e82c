package keyvault_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// allParts is a certificate with every output.
func allParts(name string) volume.Object {
	o := volume.Object{
		Kind: volume.KindCertificate, Source: "objects[0]", Vault: "https://shop.vault.azure.net", Name: name,
		KeyFormat: volume.PKCS8, ChainOrder: volume.ChainOrderPFX,
	}
	for _, part := range []volume.Part{
		volume.PartKey, volume.PartChain, volume.PartCert, volume.PartCA, volume.PartPEM, volume.PartPFX,
	} {
		o.Outputs = append(o.Outputs, volume.Output{Part: part, Path: string(part)})
	}
	return o
}

func only(o volume.Object, parts ...volume.Part) volume.Object {
	o.Outputs = nil
	for _, part := range parts {
		o.Outputs = append(o.Outputs, volume.Output{Part: part, Path: string(part)})
	}
	return o
}

// addFile stores a file in the vault as the secret behind a certificate.
func (w *fixture) addFile(path string) (name string) {
	w.t.Helper()
	content := read(w.t, path)
	options := devcloud.SecretOptions{ContentType: devcloud.PEMFile, Kid: "https://shop.vault.azure.net/keys/x", Managed: true}
	value := string(content)
	if strings.HasSuffix(path, ".pfx") {
		options.ContentType = devcloud.PKCS12
		value = base64.StdEncoding.EncodeToString(content)
		value = value[:100] + "\r\n " + value[100:] + "\n" // white space is allowed
	}
	name = strings.NewReplacer("certificate/testdata/", "", "/", "-", ".", "-").Replace(path)
	w.vault.SetSecret(name, value, options)
	return name
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// parts splits the output of describe.sh: the key, the leaf and the others.
func parts(described string) (key, leaf, cas string) {
	const begin = "-----BEGIN CERTIFICATE-----\n"
	key, certs, _ := strings.Cut(described, begin)
	leaf, cas, found := strings.Cut(certs, begin)
	if found {
		cas = begin + cas
	}
	return key, begin + leaf, cas
}

// A PKCS#12 file gives exactly the bytes that OpenSSL gives.
func TestPKCS12IsSplitAsOpenSSLDoes(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	described, err := filepath.Glob("certificate/testdata/pfx/*.pem")
	if err != nil || len(described) < 20 {
		t.Fatal(described, err)
	}
	for _, path := range described {
		name := strings.TrimSuffix(filepath.Base(path), ".pem")
		t.Run(name, func(t *testing.T) {
			pfx := strings.TrimSuffix(path, ".pem") + ".pfx"
			wanted := string(read(t, path))
			if suite.Long() { // describe.sh wrote the checked-in files
				if live := describe(t, pfx); live != "" && live != wanted {
					t.Errorf("OpenSSL says something else now:\n%s", cmp.Diff(wanted, live))
				}
			}
			key, leaf, cas := parts(wanted)
			want := map[string]string{
				"key": key, "cert": leaf, "ca": cas, "chain": leaf + cas, "pem": wanted, "pfx": string(read(t, pfx)),
			}
			if diff := cmp.Diff(want, w.fetch(w.asServicePrincipal(allParts(w.addFile(pfx))))); diff != "" {
				t.Errorf("(-OpenSSL +got):\n%s", diff)
			}
		})
	}
}

// describe runs the OpenSSL of this machine, if there is a suitable one.
func describe(t *testing.T, pfx string) string {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		return ""
	}
	out, err := exec.CommandContext(t.Context(), "sh", "certificate/testdata/pfx/describe.sh", pfx).Output()
	if err != nil {
		t.Logf("OpenSSL cannot read %s here: %v", pfx, err)
		return ""
	}
	return string(out)
}

// subjects returns the common names of a chain.
func subjects(t *testing.T, chain string) string {
	t.Helper()
	var names []string
	for rest := []byte(chain); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return strings.Join(names, ", ")
		}
		name := "?" // of a type that Go does not support
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			name = cert.Subject.CommonName
		}
		names = append(names, name)
	}
}

func TestChainOrder(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	const (
		chain   = "rsa-2048.example.com, Test Intermediate, Test Root"
		strange = "rsa-2048.example.com, Test Root, Test Intermediate"
	)
	for _, test := range []struct {
		file  string
		order volume.ChainOrder
		want  string
	}{
		{"certificate/testdata/pfx/rsa-2048.pfx", volume.ChainOrderChain, chain},
		{"certificate/testdata/pfx/rsa-2048.pfx", volume.ChainOrderPFX, chain},
		{"certificate/testdata/pfx/rsa-2048.pfx", volume.ChainOrderReverse, strange},
		{"certificate/testdata/pfx/root-first.pfx", volume.ChainOrderChain, chain},
		{"certificate/testdata/pfx/root-first.pfx", volume.ChainOrderPFX, strange},
		{"certificate/testdata/pfx/root-first.pfx", volume.ChainOrderReverse, chain},
		{"certificate/testdata/pfx/leaf-last.pfx", volume.ChainOrderChain, chain},
		{"certificate/testdata/pfx/leaf-last.pfx", volume.ChainOrderPFX, strange},
		{"certificate/testdata/pfx/leaf-middle.pfx", volume.ChainOrderChain, "ec-p384.example.com, Test Intermediate, Test Root"},
		{"certificate/testdata/pfx/leaf-middle.pfx", volume.ChainOrderPFX, "ec-p384.example.com, Test Root, Test Intermediate"},
		{"certificate/testdata/pfx/secp256k1-leaf-last.pfx", volume.ChainOrderChain, "?, Test Intermediate, Test Root"},
		{"certificate/testdata/pfx/secp256k1-leaf-last.pfx", volume.ChainOrderPFX, "?, Test Root, Test Intermediate"},
		{"certificate/testdata/pem/leaf-last.pem", volume.ChainOrderChain, chain},
		{"certificate/testdata/pem/leaf-last.pem", volume.ChainOrderPFX, strange},
	} {
		object := only(allParts(w.addFile(test.file)), volume.PartChain)
		object.ChainOrder = test.order
		if got := subjects(t, w.fetch(w.asServicePrincipal(object))["chain"]); got != test.want {
			t.Errorf("%s, %s: %s, want %s", test.file, test.order, got, test.want)
		}
	}
}

// PEM content gives the same files as the PKCS#12 file of the same certificate, for every form of key.
func TestPEMContent(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	for file, like := range map[string]string{
		"rsa-2048": "rsa-2048", "pkcs1": "rsa-2048", "leaf-last": "leaf-last", "ec-p256": "ec-p256", "sec1": "ec-p256", "ed25519": "ed25519",
	} {
		key, leaf, cas := parts(string(read(t, "certificate/testdata/pfx/"+like+".pem")))
		want := map[string]string{"key": key, "cert": leaf, "ca": cas, "chain": leaf + cas, "pem": key + leaf + cas}
		object := allParts(w.addFile("certificate/testdata/pem/" + file + ".pem"))
		got := w.fetch(w.asServicePrincipal(object))
		pfx := got["pfx"]
		delete(got, "pfx")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
		if again := w.fetch(w.asServicePrincipal(object))["pfx"]; again != pfx {
			t.Errorf("%s: the PFX differs from one fetch to the next", file)
		}
		if _, cert, _, err := pkcs12.DecodeChain([]byte(pfx), ""); err != nil {
			t.Errorf("%s: the PFX cannot be read: %v", file, err)
		} else if string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})) != leaf {
			t.Errorf("%s: the PFX has another leaf", file)
		}
	}
}

// Go does not support P-256K: what needs no parsing is copied. TestPKCS12IsSplitAsOpenSSLDoes has the PKCS#12 files.
func TestP256K(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	for _, file := range []string{"secp256k1", "secp256k1-explicit", "secp256k1-explicit-sec1"} {
		wanted := string(read(t, "certificate/testdata/pem/"+file+".pem"))
		key, leaf, cas := parts(wanted)
		object := only(allParts(w.addFile("certificate/testdata/pem/"+file+".pem")),
			volume.PartKey, volume.PartCert, volume.PartCA, volume.PartChain, volume.PartPEM)
		want := map[string]string{"key": key, "cert": leaf, "ca": cas, "chain": leaf + cas, "pem": wanted}
		if diff := cmp.Diff(want, w.fetch(w.asServicePrincipal(object))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
	fromPEM := w.addFile("certificate/testdata/pem/secp256k1.pem")
	w.fails(w.asServicePrincipal(only(allParts(fromPEM), volume.PartPFX)), volume.ErrPrecondition,
		`objects[0]: certificate "pem-secp256k1-pem" of https://shop.vault.azure.net has a key of a kind that cannot be written as PKCS#12, such as one on P-256K or with explicit EC parameters; use pem`)
}

// OpenSSL reads this certificate and this package does not: it is BER, with more length bytes than in DER.
func TestCertificateThatIsNotDER(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	_, leaf, _ := parts(string(read(t, "certificate/testdata/pfx/rsa-2048.pem")))
	block, _ := pem.Decode([]byte(leaf))
	key, _, err := pkcs12.Decode(read(t, "certificate/testdata/pfx/leaf-only.pfx"), "")
	if err != nil {
		t.Fatal(err)
	}
	ber := append([]byte{0x30, 0x83, 0}, block.Bytes[2:]...) // after 0x30, 0x82
	pfx, err := pkcs12.Modern.Encode(key, &x509.Certificate{Raw: ber}, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	w.vault.SetSecret("ber", base64.StdEncoding.EncodeToString(pfx), devcloud.SecretOptions{ContentType: devcloud.PKCS12, Managed: true})
	want := map[string]string{"pfx": string(pfx)}
	if diff := cmp.Diff(want, w.fetch(w.asServicePrincipal(only(allParts("ber"), volume.PartPFX)))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	w.fails(w.asServicePrincipal(only(allParts("ber"), volume.PartKey)), volume.ErrPrecondition,
		`objects[0]: certificate "ber" of https://shop.vault.azure.net holds a key or a certificate that is not read here `+
			`(such as a certificate that is not DER); issue it with the content type application/x-pem-file, or ask for its PFX alone`)
}

func TestKeyFormat(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	pkcs1, _, _ := parts(string(read(t, "certificate/testdata/pem/pkcs1.pem")))
	_, sec1, _ := strings.Cut(string(read(t, "certificate/testdata/pem/sec1.pem")), "-----END EC PARAMETERS-----\n")
	sec1, _, _ = parts(sec1)
	for _, test := range []struct {
		file   string
		format volume.KeyFormat
		want   string
		err    string
	}{
		{"certificate/testdata/pfx/rsa-2048.pfx", volume.PKCS1, pkcs1, ""},
		{"certificate/testdata/pfx/ec-p256.pfx", volume.SEC1, sec1, ""},
		{"certificate/testdata/pfx/rsa-2048.pfx", volume.SEC1, "", "has no EC key that can be written as keyFormat sec1; use pkcs8"},
		{"certificate/testdata/pfx/ec-p256.pfx", volume.PKCS1, "", "has no RSA key, so that keyFormat pkcs1 is not possible; use pkcs8"},
		{"certificate/testdata/pfx/ed25519.pfx", volume.SEC1, "", "has no EC key that can be written as keyFormat sec1; use pkcs8"},
		{"certificate/testdata/pem/secp256k1.pem", volume.PKCS1, "", "has no RSA key, so that keyFormat pkcs1 is not possible; use pkcs8"},
	} {
		object := only(allParts(w.addFile(test.file)), volume.PartKey)
		object.KeyFormat = test.format
		if test.err != "" {
			w.fails(w.asServicePrincipal(object), volume.ErrPrecondition,
				`objects[0]: certificate "`+object.Name+`" of https://shop.vault.azure.net `+test.err)
			continue
		}
		if got := w.fetch(w.asServicePrincipal(object))["key"]; got != test.want {
			t.Errorf("%s as %s:\n%s", test.file, test.format, cmp.Diff(test.want, got))
		}
	}
}

// The public parts of a certificate are files also if its key is not exportable. The names give the leaf.
func TestPublicParts(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	_, leaf, cas := parts(string(read(t, "certificate/testdata/pfx/rsa-2048.pem")))
	intermediate, root, _ := strings.Cut(strings.TrimPrefix(cas, "-----BEGIN"), "-----BEGIN")
	intermediate, root = "-----BEGIN"+intermediate, "-----BEGIN"+root
	backed := func(name, pem string) string {
		w.vault.SetSecret(name, pem, devcloud.SecretOptions{ContentType: devcloud.PEMFile, Kid: "https://shop.vault.azure.net/keys/x"})
		return name
	}
	for name, cas := range map[string]string{
		w.addFile("certificate/testdata/pfx/cert-only.pfx"):            "",
		w.addFile("certificate/testdata/pfx/cert-only-root-first.pfx"): intermediate + root,
		w.addFile("certificate/testdata/pem/no-key.pem"):               intermediate + root,
		backed("leaf", leaf):                          "",
		backed("root-first", root+intermediate+leaf):  intermediate + root,
		backed("leaf-middle", intermediate+leaf+root): intermediate + root,
		backed("no-intermediate", root+leaf):          root,
		backed("twice", leaf+intermediate+root+leaf):  intermediate + root + leaf,
		backed("no-root", intermediate+leaf):          intermediate,
	} {
		want := map[string]string{"cert": leaf, "chain": leaf + cas, "ca": cas}
		object := only(allParts(name), volume.PartCert, volume.PartChain, volume.PartCA)
		object.ChainOrder = volume.ChainOrderChain
		if diff := cmp.Diff(want, w.fetch(w.asServicePrincipal(object))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		for _, part := range []volume.Part{volume.PartKey, volume.PartPEM, volume.PartPFX} {
			w.fails(w.asServicePrincipal(only(allParts(name), part)), volume.ErrPrecondition, `objects[0]: certificate "`+name+
				`" of https://shop.vault.azure.net holds no private key: the certificate's key is not exportable; `+
				"make it exportable, or ask for its chain, cert or ca alone (attribute objects)")
		}
	}
	alone := backed("root", root)
	if got := w.fetch(w.asServicePrincipal(only(allParts(alone), volume.PartCert)))["cert"]; got != root {
		t.Errorf("a root alone: %s", got)
	}
}

func TestCertificatesThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	notExportable := "holds no private key: the certificate's key is not exportable; make it exportable, or ask for its chain, cert or ca alone (attribute objects)"
	for file, want := range map[string]string{
		"certificate/testdata/pfx/cert-only.pfx": notExportable,
		"certificate/testdata/pem/no-key.pem":    notExportable,
		"certificate/testdata/pfx/key-only.pfx":  "holds no certificate",
		"certificate/testdata/pfx/password.pfx":  "is not a readable PKCS#12 file without a password",
		"certificate/testdata/pfx/iterations.pfx": "takes too long to decode: its key derivations have more than 100,000 iterations together; " +
			"export it with fewer (openssl pkcs12 -export -iter 2048), or use the content type application/x-pem-file",
		"certificate/testdata/pem/encrypted.pem": "holds an encrypted private key; store it without a password",
	} {
		name := w.addFile(file)
		w.fails(w.asServicePrincipal(allParts(name)), volume.ErrPrecondition,
			`objects[0]: certificate "`+name+`" of https://shop.vault.azure.net `+want)
	}
	for _, test := range []struct{ name, value, contentType, want string }{
		{"text", "no base64 at all", devcloud.PKCS12, "is not the base64 text of a PKCS#12 file"},
		{"noise", "bm9pc2U=", devcloud.PKCS12, "is not a readable PKCS#12 file without a password"},
		{"no-pem", "no PEM at all", devcloud.PEMFile, "is not readable PEM"},
		{"plain", "x", "text/plain", "holds no certificate: its content type is neither application/x-pkcs12 nor application/x-pem-file"},
		{"untyped-pfx", base64.StdEncoding.EncodeToString(read(t, "certificate/testdata/pfx/ec-p256.pfx")), "",
			"holds a PKCS#12 file, but its content type is not set; set the content type application/x-pkcs12 (az keyvault secret set-attributes --content-type)"},
		{"untyped-pem", string(read(t, "certificate/testdata/pem/ec-p256.pem")), "text/plain",
			"holds PEM, but its content type is another; set the content type application/x-pem-file (az keyvault secret set-attributes --content-type)"},
		{"pem-as-pfx", string(read(t, "certificate/testdata/pem/ec-p256.pem")), devcloud.PKCS12,
			"holds PEM, but its content type is another; set the content type application/x-pem-file (az keyvault secret set-attributes --content-type)"},
		{"pfx-as-pem", base64.StdEncoding.EncodeToString(read(t, "certificate/testdata/pfx/ec-p256.pfx")), devcloud.PEMFile,
			"holds a PKCS#12 file, but its content type is another; set the content type application/x-pkcs12 (az keyvault secret set-attributes --content-type)"},
		{"mixed", string(read(t, "certificate/testdata/pem/no-key.pem")) + firstBlock(read(t, "certificate/testdata/pem/ec-p256.pem")), devcloud.PEMFile,
			"holds no certificate that belongs to its private key"},
		{"two-keys", string(read(t, "certificate/testdata/pem/rsa-2048.pem")) + firstBlock(read(t, "certificate/testdata/pem/ec-p256.pem")), devcloud.PEMFile,
			"holds several private keys"},
	} {
		w.vault.SetSecret(test.name, test.value, devcloud.SecretOptions{ContentType: test.contentType, Kid: "https://shop.vault.azure.net/keys/x"})
		w.fails(w.asServicePrincipal(allParts(test.name)), volume.ErrPrecondition,
			`objects[0]: certificate "`+test.name+`" of https://shop.vault.azure.net `+test.want)
	}
}

func firstBlock(content []byte) string {
	block, _ := pem.Decode(content)
	return string(pem.EncodeToMemory(block))
}

// fails asserts the sentinel and the exact text.
func (w *fixture) fails(r volume.Request, sentinel error, text string) {
	w.t.Helper()
	content, err := w.client.Fetch(w.t.Context(), r)
	switch {
	case err == nil:
		w.t.Errorf("Fetch succeeds, want: %s", text)
	case err.Error() != text:
		w.t.Errorf("Fetch:\n got %s\nwant %s", err, text)
	case !errors.Is(err, sentinel):
		w.t.Errorf("%v is not %v", err, sentinel)
	}
	if len(content.Files) > 0 {
		w.t.Error("files beside an error")
	}
}
