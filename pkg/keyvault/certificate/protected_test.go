package certificate_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/certificate"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const pfxPassword = "p\u00e4ss-w\u00f6rd 5c1f"

func splitFile(t *testing.T, name string) *certificate.Bundle {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata/pfx", name+".pfx"))
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := certificate.Split("application/x-pkcs12", []byte(base64.StdEncoding.EncodeToString(content)))
	if err != nil {
		t.Fatal(err)
	}
	return bundle
}

func protect(t *testing.T, b *certificate.Bundle, password string, profile volume.PFXProfile, alias string) []byte {
	t.Helper()
	data, err := b.Protect(volume.ChainOrderChain, certificate.Protection{
		Password: volume.NewSecret([]byte(password)), Profile: profile, Alias: alias,
	})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// The same certificate and password give the same bytes. All that is encrypted, and nothing else, decides the salts.
func TestProtectIsStable(t *testing.T) {
	t.Parallel()
	first := protect(t, splitFile(t, "3des"), pfxPassword, volume.PFXModern, "web")
	if again := protect(t, splitFile(t, "3des"), pfxPassword, volume.PFXModern, "web"); !bytes.Equal(first, again) {
		t.Error("the file differs for the same certificate and password")
	}
	salt := saltsOf(t, first)
	for name, other := range map[string][]byte{
		"another profile":     protect(t, splitFile(t, "3des"), pfxPassword, volume.PFXLegacy, "web"),
		"another alias":       protect(t, splitFile(t, "3des"), pfxPassword, volume.PFXModern, "web-2"),
		"another certificate": protect(t, splitFile(t, "ec-p256"), pfxPassword, volume.PFXModern, "web"),
	} {
		if saltsOf(t, other) == salt {
			t.Errorf("%s has the same salt", name)
		}
	}
	other := protect(t, splitFile(t, "3des"), pfxPassword+"x", volume.PFXModern, "web")
	if bytes.Equal(first, other) {
		t.Error("another password gives the same file")
	}
	if saltsOf(t, other) != salt {
		t.Error("the password decides the salt, so that the salt can be used to test passwords")
	}
}

// saltsOf returns the salt of the MAC in a PKCS#12 file, which openssl prints.
func saltsOf(t *testing.T, pfx []byte) string {
	t.Helper()
	octets := regexp.MustCompile(`OCTET STRING\s+\[HEX DUMP\]:([0-9A-F]+)`).FindAllStringSubmatch(openssl(t, pfx, "asn1parse", "-inform", "DER"), -1)
	if len(octets) < 2 {
		t.Fatal("no salt")
	}
	return octets[len(octets)-1][1]
}

func openssl(t *testing.T, stdin []byte, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip(err)
	}
	command := exec.CommandContext(t.Context(), "openssl", args...)
	command.Stdin = bytes.NewReader(stdin)
	var stderr strings.Builder
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("openssl %v: %v: %s", args, err, stderr.String())
	}
	return string(out)
}

// OpenSSL and Java read both profiles, with the key, its chain and its name. Java takes only ASCII passwords.
func TestProtectIsRead(t *testing.T) {
	t.Parallel()
	const ascii = "changeit-5c1f"
	for _, profile := range []volume.PFXProfile{volume.PFXModern, volume.PFXLegacy} {
		for _, name := range []string{"3des", "ec-p256", "ed25519", "leaf-only", "leaf-last"} {
			t.Run(string(profile)+" "+name, func(t *testing.T) {
				t.Parallel()
				bundle := splitFile(t, name)
				want := part(t, bundle, volume.PartPEM)
				pfx := protect(t, bundle, ascii, profile, "Web-TLS")
				openssl(t, protect(t, bundle, pfxPassword, profile, "web"), "pkcs12", "-nodes", "-passin", "pass:"+pfxPassword)
				out := openssl(t, pfx, "pkcs12", "-nodes", "-passin", "pass:"+ascii)
				if !strings.Contains(out, "friendlyName: Web-TLS") {
					t.Errorf("OpenSSL does not show the name: %s", out)
				}
				if got := pemBlocks(out); got != pemBlocks(want) {
					t.Errorf("OpenSSL reads\n%s\nwant\n%s", got, pemBlocks(want))
				}
				if name == "3des" || name == "ec-p256" { // Java needs a second of CPU for each
					keytool(t, pfx, ascii, strings.Count(want, "BEGIN CERTIFICATE"))
				}
			})
		}
	}
}

// keytool checks that Java shows one key, under the name in lower case, with the chain, and that it can sign with the key.
func keytool(t *testing.T, pfx []byte, password string, certificates int) {
	t.Helper()
	if _, err := exec.LookPath("keytool"); err != nil {
		t.Log(err)
		return
	}
	store := filepath.Join(t.TempDir(), "web.p12")
	if err := os.WriteFile(store, pfx, 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		args = append(args, "-J-Duser.language=en", "-keystore", store, "-storepass", password)
		out, err := exec.CommandContext(t.Context(), "keytool", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("keytool %s: %v: %s", args[0], err, out)
		}
		return string(out)
	}
	if out := run("-certreq", "-alias", "web-tls"); !strings.Contains(out, "BEGIN NEW CERTIFICATE REQUEST") {
		t.Errorf("keytool signs nothing: %s", out)
	}
	out := run("-list", "-v")
	for _, want := range []string{
		"Your keystore contains 1 entry", "Alias name: web-tls", "Entry type: PrivateKeyEntry",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("keytool does not say %q: %s", want, out)
		}
	}
	if got := strings.Count(out, "\nCertificate["); got != certificates {
		t.Errorf("keytool shows a chain of %d, want %d: %s", got, certificates, out)
	}
}

func part(t *testing.T, b *certificate.Bundle, part volume.Part) string {
	t.Helper()
	data, err := b.Part(part, volume.ChainOrderChain, volume.PKCS8)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// pemBlocks returns the blocks of PEM text, those of certificates first, without what is between them.
func pemBlocks(text string) string {
	blocks := regexp.MustCompile(`(?s)-----BEGIN.*?-----END[^\n]*\n`).FindAllString(text, -1)
	slices.SortStableFunc(blocks, func(a, b string) int { return strings.Compare(begin(a), begin(b)) })
	return strings.Join(blocks, "")
}

func begin(block string) string {
	line, _, _ := strings.Cut(block, "\n")
	return line
}

// The file is kept for the next refresh, by a key that does not hold the password, and no more than two files are.
func TestProtectedIsKept(t *testing.T) {
	t.Parallel()
	bundle := splitFile(t, "ec-p256")
	p := certificate.Protection{Password: volume.NewSecret([]byte("a")), Profile: volume.PFXModern, Alias: "web"}
	other, third := p, p
	other.Password, third.Profile = volume.NewSecret([]byte("b")), volume.PFXLegacy
	kept := func(p certificate.Protection) bool {
		_, ok := bundle.Protected(volume.ChainOrderChain, p)
		return ok
	}
	if kept(p) {
		t.Error("a file is there before it is made")
	}
	for _, p := range []certificate.Protection{p, other, p} {
		if _, err := bundle.Protect(volume.ChainOrderChain, p); err != nil {
			t.Fatal(err)
		}
	}
	if !kept(p) || !kept(other) || kept(third) {
		t.Error("not exactly the files that were made are there")
	}
	if _, ok := bundle.Protected(volume.ChainOrderReverse, p); ok {
		t.Error("the order makes no difference")
	}
	if _, err := bundle.Protect(volume.ChainOrderChain, third); err != nil {
		t.Fatal(err)
	}
	if kept(p) || !kept(other) || !kept(third) {
		t.Error("not the oldest file was dropped")
	}
}

func TestProtectRefused(t *testing.T) {
	t.Parallel()
	p := certificate.Protection{Password: volume.NewSecret([]byte("a")), Profile: volume.PFXModern, Alias: "web"}
	for name, want := range map[string]string{
		"ed448": "has a key of a kind that cannot be written as PKCS#12, such as one on P-256K or with explicit EC parameters; use pem",
	} {
		if _, err := splitFile(t, name).Protect(volume.ChainOrderChain, p); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
	public := certificate.FromDER([]byte{0x30, 0})
	if _, err := public.Protect(volume.ChainOrderChain, p); err == nil || err.Error() != certificate.ErrNoKey.Error() {
		t.Errorf("without a key: %v", err)
	}
}

func TestPassword(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ secret, password, fails string }{
		{"hunter2", "hunter2", ""},
		{"hunter2\n", "hunter2", ""},
		{"hunter2\r\n", "hunter2", ""},
		{" hunter 2 ", " hunter 2 ", ""},
		{"p\u00e4ss\u5bc6", "p\u00e4ss\u5bc6", ""},
		{strings.Repeat("x", 1023), strings.Repeat("x", 1023), ""},
		{"", "", "is empty, "},
		{"\n", "", "is empty, "},
		{"\r\n", "", "is empty, "},
		{"hunter2\n\n", "", "holds a control character, "},
		{"hunter2\r", "", "holds a control character, "},
		{"a\tb", "", "holds a control character, "},
		{"a\x00", "", "holds a control character, "},
		{"a\u0085", "", "holds a control character, "},
		{"a\xff", "", "is not UTF-8, "},
		{"\U0001f511", "", "holds a character above U+FFFF, "},
		{strings.Repeat("x", 1024), "", "is longer than the 1023 bytes "},
	} {
		got, err := certificate.Password(volume.NewSecret([]byte(row.secret)))
		if string(got.Reveal()) != row.password {
			t.Errorf("%q is read as %q", row.secret, got.Reveal())
		}
		if (err == nil) != (row.fails == "") || err != nil && !strings.HasPrefix(err.Error(), row.fails) {
			t.Errorf("%q: %v, want %q", row.secret, err, row.fails)
		}
	}
}

// The bytes stay the same over versions of the driver and of the encoder: different bytes would rotate every keystore at an
// upgrade.
func TestFilesAreTheSameAsEver(t *testing.T) {
	t.Parallel()
	for profile, want := range map[volume.PFXProfile]string{
		volume.PFXModern: "2ddf8618301213bcb4a26509d3f10bdf46b426501976cce5589acf6f02eb5f84",
		volume.PFXLegacy: "6db764669d0ba442bc40df740744f78cf0a0e8b5e4c78872cab25605fe8a299c",
	} {
		sum := sha256.Sum256(protect(t, splitFile(t, "3des"), "changeit", profile, "web"))
		if got := hex.EncodeToString(sum[:]); got != want {
			t.Errorf("%s: the file has the hash %s, want %s", profile, got, want)
		}
	}
	const want = "e801698b85e9d5e266d57d4b3d34b824709ada7651ab413ea8e1344d0933e6b4"
	file, err := splitFile(t, "3des").Part(volume.PartPFX, volume.ChainOrderChain, volume.PKCS8)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(file)
	if got := hex.EncodeToString(sum[:]); got != want {
		t.Errorf("without a password: the file has the hash %s, want %s", got, want)
	}
}
