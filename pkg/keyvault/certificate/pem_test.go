package certificate

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const beginCert, endCert = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"

// replaceNth replaces the nth occurrence, counted from 1.
func replaceNth(s, old, with string, n int) string {
	parts := strings.SplitAfterN(s, old, n+1)
	parts[n-1] = strings.TrimSuffix(parts[n-1], old) + with
	return strings.Join(parts, "")
}

// Damaged PEM gives all of its certificates or an error that names the block. The file has a key and three
// certificates. The three readers of PEM agree.
func TestDamagedPEM(t *testing.T) {
	t.Parallel()
	const lost = "block 1 of 4 (PRIVATE KEY) is not readable: the line breaks are gone: "
	for name, test := range map[string]struct {
		change func(string) string
		want   string // the error; empty: all certificates
	}{
		"nothing":                  {func(s string) string { return s }, ""},
		"CRLF":                     {func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }, ""},
		"CR alone":                 {func(s string) string { return strings.ReplaceAll(s, "\n", "\r") }, ""},
		"space at the line ends":   {func(s string) string { return strings.ReplaceAll(s, "\n", " \t\n") }, ""},
		"no last line end":         {strings.TrimSpace, ""},
		"BOM":                      {func(s string) string { return "\ufeff" + s }, ""},
		"BOM before a certificate": {func(s string) string { return replaceNth(s, beginCert, "\ufeff"+beginCert, 2) }, ""},
		"indentation":              {func(s string) string { return "  " + strings.ReplaceAll(s, "\n", "\n  ") }, ""},
		"indentation of one line":  {func(s string) string { return replaceNth(s, beginCert, "\t"+beginCert, 2) }, ""},
		"text between": {func(s string) string {
			return "Bag Attributes\n  friendlyName: x\n" + replaceNth(s, beginCert, "subject=CN = x\n# ---- CAs ----\n"+beginCert, 2) + "the end\n"
		}, ""},
		"text before BEGIN":     {func(s string) string { return replaceNth(s, beginCert, "ca: "+beginCert, 2) }, ""},
		"glued blocks":          {func(s string) string { return strings.ReplaceAll(s, "-----\n-----", "----------") }, ""},
		"END behind the base64": {func(s string) string { return strings.ReplaceAll(s, "\n-----END", "-----END") }, ""},
		"one long line each": {func(s string) string {
			s = strings.ReplaceAll(s, "\n", "")
			for _, mark := range []string{" KEY-----", "CERTIFICATE-----"} {
				s = strings.ReplaceAll(s, mark, mark+"\n")
			}
			return strings.ReplaceAll(s, "-----END", "\n-----END")
		}, ""},
		"OpenSSL's older label":   {func(s string) string { return strings.ReplaceAll(s, " CERTIFICATE-", " X509 CERTIFICATE-") }, ""},
		"OpenSSL's trusted label": {func(s string) string { return strings.ReplaceAll(s, " CERTIFICATE-", " TRUSTED CERTIFICATE-") }, ""},
		"another type between": {func(s string) string {
			return replaceNth(s, beginCert, "-----BEGIN DH PARAMETERS-----\nMAA=\n-----END DH PARAMETERS-----\n"+beginCert, 2)
		}, ""},

		"no END": {func(s string) string { return replaceNth(s, endCert+"\n", "", 2) },
			"block 3 of 4 (CERTIFICATE) has no line -----END CERTIFICATE-----"},
		"no END of the key": {func(s string) string { return strings.Replace(s, "-----END PRIVATE KEY-----\n", "", 1) },
			"block 1 of 4 (PRIVATE KEY) has no line -----END PRIVATE KEY-----"},
		"no BEGIN": {func(s string) string { return replaceNth(s, beginCert+"\n", "", 2) },
			"block 2 of 3 (CERTIFICATE) is followed by a line BEGIN or END that is damaged"},
		"no BEGIN at the top": {func(s string) string { return strings.Replace(s, "-----BEGIN PRIVATE KEY-----\n", "", 1) },
			"block 1 of 3 comes after a line BEGIN or END that is damaged"},
		"BEGIN with four hyphens": {func(s string) string { return replaceNth(s, beginCert, beginCert[1:], 2) },
			"block 2 of 3 (CERTIFICATE) is followed by a line BEGIN or END that is damaged"},
		"BEGIN that ends with four": {func(s string) string { return replaceNth(s, beginCert, strings.TrimSuffix(beginCert, "-"), 2) },
			"block 3 of 4 has a damaged line BEGIN"},
		"END with four hyphens": {func(s string) string { return replaceNth(s, endCert, endCert[1:], 2) },
			"block 3 of 4 (CERTIFICATE) has no line -----END CERTIFICATE-----"},
		"dashes of a word processor": {func(s string) string {
			return replaceNth(replaceNth(s, beginCert, "—–BEGIN CERTIFICATE—–", 3), endCert, "—–END CERTIFICATE—–", 3)
		}, "block 3 of 3 (CERTIFICATE) is followed by a line BEGIN or END that is damaged"},
		"a misspelt label": {func(s string) string { return replaceNth(s, beginCert, "-----BEGIN CERTIFICAT-----", 2) },
			"block 3 of 4 has no line END of its own type"},
		"cut":     {func(s string) string { return s[:len(s)-100] }, "block 4 of 4 (CERTIFICATE) has no line -----END CERTIFICATE-----"},
		"cut END": {func(s string) string { return strings.TrimSpace(s)[:len(s)-5] }, "block 4 of 4 (CERTIFICATE) has no line -----END CERTIFICATE-----"},
		"a line is gone": {func(s string) string {
			begin, rest, _ := strings.Cut(s, beginCert+"\n")
			return begin + beginCert + "\n" + rest[65:]
		}, "block 2 of 4 (CERTIFICATE) is not a whole certificate: characters or lines are missing or wrong"},
		"a character is wrong": {func(s string) string { return replaceNth(s, beginCert+"\nMII", beginCert+"\nM*I", 2) },
			"block 3 of 4 (CERTIFICATE) is not base64: it was cut, or has a wrong character"},
		"a character is gone": {func(s string) string { return replaceNth(s, beginCert+"\nMII", beginCert+"\nMI", 2) },
			"block 3 of 4 (CERTIFICATE) is not base64: it was cut, or has a wrong character"},
		"quoted mail": {func(s string) string { return "> " + strings.ReplaceAll(s, "\n", "\n> ") },
			"block 1 of 4 (PRIVATE KEY) is not base64: it was cut, or has a wrong character"},
		"no content": {func(s string) string { return replaceNth(s, beginCert, beginCert+"\n"+endCert+"\n"+beginCert, 2) },
			"block 3 of 5 (CERTIFICATE) is not a whole certificate: characters or lines are missing or wrong"},
		"PKCS#7": {func(s string) string { return s + "-----BEGIN PKCS7-----\nMAA=\n-----END PKCS7-----\n" },
			"block 5 of 5 is PKCS#7, which is not read; convert it (openssl pkcs7 -print_certs)"},
		"spaces for line ends": {func(s string) string { return strings.ReplaceAll(s, "\n", " ") }, lost + "replace spaces by line ends"},
		"no line ends":         {func(s string) string { return strings.ReplaceAll(s, "\n", "") }, lost + "replace spaces by line ends"},
		"letters for line ends": {func(s string) string { return strings.ReplaceAll(s, "\n", `\n`) },
			lost + `replace the letters \n by line ends`},
		"letters for some line ends": {func(s string) string {
			return strings.ReplaceAll(strings.ReplaceAll(s, "\n", `\n`), `-----\n`, "-----\n")
		}, lost + `replace the letters \n by line ends`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			content, err := os.ReadFile("testdata/pem/rsa-2048.pem")
			if err != nil {
				t.Fatal(err)
			}
			changed := []byte(test.change(string(content)))
			readers := map[string]func() (int, error){
				"value": func() (int, error) {
					b, err := splitPEM(changed)
					if err != nil {
						return 0, err
					}
					chain, err := b.Part(volume.PartChain, "", "")
					return bytes.Count(chain, []byte(beginCert)), err
				},
				"client certificate": func() (int, error) { chain, _, err := ParseClient(changed, nil); return len(chain), err },
				"CA bundle":          func() (int, error) { certs, err := ParseCAs(changed); return len(certs), err },
			}
			for reader, read := range readers {
				certs, err := read()
				switch {
				case test.want == "" && (err != nil || certs != 3):
					t.Errorf("%s: %d certificates of 3: %v", reader, certs, err)
				case test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), "has damaged PEM: "+test.want)):
					t.Errorf("%s: %d certificates, %v, want: %s", reader, certs, err, test.want)
				}
			}
		})
	}
}

// A private key of which a part is missing is not "not exportable".
func TestDamagedKey(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("testdata/pem/rsa-2048.pem")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(content), "\n")
	_, err = splitPEM([]byte(lines[0] + strings.Join(lines[2:], "")))
	const want = "has damaged PEM: block 1 of 4 (PRIVATE KEY) is not a whole private key: characters or lines are missing or wrong; " +
		"store the complete file again (az keyvault secret set --file)"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// The certificates of a CA bundle are all there, or the daemon does not start.
func TestParseCAs(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"testdata/pem/secp256k1.pem": "has damaged PEM: block 2 of 4 (CERTIFICATE) is a certificate of a kind that is not read here, such as one with explicit EC parameters; remove it",
		"testdata/pfx/make.sh":       "has no certificate in PEM form",
		"testdata/login/root.pem":    "",
	} {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseCAs(content); err == nil && want != "" || err != nil && err.Error() != want {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}
