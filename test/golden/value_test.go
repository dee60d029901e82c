package golden_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// TestValues: a file has exactly the bytes of the value.
func TestValues(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	var names []string
	want := files{}
	for name, value := range map[string]string{
		"plain":           "hunter2",
		"empty":           "",
		"newline":         "\n",
		"newlines":        "value\n\n\n",
		"no-newline":      "first\nlast",
		"crlf":            "one\r\ntwo\r\n",
		"cr":              "one\rtwo\r",
		"nul":             "a\x00b\x00",
		"control":         "\x01\x1b[31m\x7f\t",
		"blanks":          "  value  ",
		"not-ascii":       "pässwörd ✓ 日本語 😀",
		"separators":      "a\u2028b\u2029c\u0085d",
		"byte-order-mark": "\ufeffvalue",
		"json":            `{"a": "<b>&\"\\"}`,
		"yaml":            "--- !!binary |\n",
		"looks-like-pfx":  base64.StdEncoding.EncodeToString([]byte("no PFX")),
		"longest":         strings.Repeat("0123456789abcdef", 25*1024/16),
	} {
		n.Vault.SetSecret(name, value, devcloud.SecretOptions{})
		names, want["secrets/"+name] = append(names, name), value
	}
	gives(t, n, attributes{"secrets": strings.Join(names, ";")}, want)
}

// TestContentTypes: only a secret with a key id belongs to a certificate, whatever its content type.
func TestContentTypes(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	var names []string
	want := files{}
	for name, contentType := range map[string]string{
		"pfx": devcloud.PKCS12, "pem": devcloud.PEMFile, "text": "text/plain", "base64": "base64", "nonsense": "\\;=",
	} {
		value := base64.StdEncoding.EncodeToString([]byte(name))
		n.Vault.SetSecret(name, value, devcloud.SecretOptions{ContentType: contentType})
		names, want["secrets/"+name] = append(names, name), value
	}
	gives(t, n, attributes{"secrets": strings.Join(names, ";")}, want)
}

// TestFileEncoding: the init container should decode a secret with the tag file-encoding=base64, but fails since Python 3. The driver
// decodes it. Other tags change nothing, as before.
func TestFileEncoding(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	const binary = "\x00\x01\xfe\xff keystore"
	encoded := base64.StdEncoding.EncodeToString([]byte(binary))
	certificate := addCertificate(t, n, "certificate", devcloud.CertificateOptions{Tags: map[string]string{"file-encoding": "base64"}})
	names := []string{"certificate"}
	want := files{"secrets/certificate": certificate.pfx, "keys/certificate": certificate.key, "certs/certificate": certificate.chain()}
	for name, row := range map[string]struct {
		value, tag, encoding, want string
	}{
		"base64":         {encoded, "file-encoding", "base64", binary},
		"wrapped":        {encoded[:8] + "\r\n" + encoded[8:] + "\n", "file-encoding", "base64", binary},
		"empty":          {"", "file-encoding", "base64", ""},
		"capitals":       {encoded, "file-encoding", "BASE64", encoded},
		"utf-8":          {encoded, "file-encoding", "utf-8", encoded},
		"blank-behind":   {encoded, "file-encoding", "base64 ", encoded},
		"tag-capitals":   {encoded, "File-Encoding", "base64", encoded},
		"other-tag":      {encoded, "encoding", "base64", encoded},
		"tag-underscore": {encoded, "file_encoding", "base64", encoded},
	} {
		n.Vault.SetSecret(name, row.value, devcloud.SecretOptions{Tags: map[string]string{row.tag: row.encoding}})
		names, want["secrets/"+name] = append(names, name), row.want
	}
	t.Run("decoded", func(t *testing.T) {
		gives(t, n, attributes{"secrets": strings.Join(names, ";"), "chainOrder": "pfx"}, want)
	})
	t.Run("no base64", func(t *testing.T) {
		n.Vault.SetSecret("wrong", "%%%", devcloud.SecretOptions{Tags: map[string]string{"file-encoding": "base64"}})
		refuses(t, n, attributes{"secrets": "base64;wrong"}, codes.FailedPrecondition,
			`secrets[1]: secret "wrong" of `+node.VaultURL+` is not base64; correct the value or the encoding`)
	})
}
