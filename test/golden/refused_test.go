package golden_test

import (
	"encoding/base64"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// TestRefused tests inputs that give an error and no volume. The init container failed at most of them too, but left the files that it had
// written before. Comments mark those that it wrote.
func TestRefused(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	n.Vault.SetSecret("n", "value", devcloud.SecretOptions{Version: secondVersion})
	n.Vault.SetSecret("off", "value", devcloud.SecretOptions{Disabled: true})
	addCertificate(t, n, "c", devcloud.CertificateOptions{})
	addCertificate(t, n, "d", devcloud.CertificateOptions{})
	addCertificate(t, n, "locked", devcloud.CertificateOptions{NotExportable: true})
	addCertificate(t, n, "locked-pem", devcloud.CertificateOptions{NotExportable: true, ContentType: devcloud.PEMFile})
	backed := func(name, value, contentType string) {
		n.Vault.SetSecret(name, value, devcloud.SecretOptions{ContentType: contentType, Kid: node.VaultURL + "/keys/" + name + "/1", Managed: true})
	}
	backed("no-type", "bm8gUEZY", "")
	backed("text", "bm8gUEZY", "text/plain")
	backed("no-pfx", "bm8gUEZY", devcloud.PKCS12)
	backed("no-base64", "%", devcloud.PKCS12)
	backed("no-pem", "text", devcloud.PEMFile)
	backed("password", base64.StdEncoding.EncodeToString([]byte(node.ReadFile(t, pfxFolder+"password.pfx"))), devcloud.PKCS12)
	backed("no-certificate", base64.StdEncoding.EncodeToString([]byte(node.ReadFile(t, pfxFolder+"key-only.pfx"))), devcloud.PKCS12)

	const (
		notPlain = " is not a plain file name"
		noKey    = "holds no private key: the certificate's key is not exportable; make it exportable, or ask for its chain, cert or ca alone (attribute objects)"
		noCert   = "holds no certificate: its content type is neither application/x-pkcs12 nor application/x-pem-file"
		plain    = `secret "n" of ` + node.VaultURL + " backs no certificate, so that there is nothing for its certificate's file; leave the file names out"
	)
	secret := func(name string) string { return `secrets[1]: secret "` + name + `" of ` + node.VaultURL + " " }
	for name, row := range map[string]struct {
		attributes attributes
		code       codes.Code
		ending     string
	}{
		// The init container wrote these outside of its folder.
		"path escapes":          {attributes{"secrets": "n;c::../../x:/abs/path"}, codes.InvalidArgument, `secrets[1]: the certfile "../../x" is not a plain file name; secrets[1]: the keyfile "/abs/path"` + notPlain},
		"dots":                  {attributes{"secrets": "n;c::.."}, codes.InvalidArgument, `the certfile ".."` + notPlain},
		"dots behind dots":      {attributes{"secrets": "n;c::..data"}, codes.InvalidArgument, `the certfile "..data"` + notPlain},
		"public, path escapes":  {attributes{"certificates": "c::../x"}, codes.InvalidArgument, `certificates[0]: the certfile "../x"` + notPlain},
		"public, absolute path": {attributes{"certificates": "c::/x"}, codes.InvalidArgument, `certificates[0]: the certfile "/x"` + notPlain},
		// It failed at these while it was writing.
		"n::":                 {attributes{"secrets": "n;c::"}, codes.InvalidArgument, `secrets[1]: the certfile "" is empty`},
		"n:::k":               {attributes{"secrets": "n;c:::k"}, codes.InvalidArgument, `secrets[1]: the certfile "" is empty`},
		"n::c:":               {attributes{"secrets": "n;c::x:"}, codes.InvalidArgument, `secrets[1]: the keyfile "" is empty`},
		"file in a subfolder": {attributes{"secrets": "n;c::tls/x.pem"}, codes.InvalidArgument, `secrets[1]: the certfile "tls/x.pem"` + notPlain},
		// It failed at these before a request, or because the vault refused.
		"no name":            {attributes{"secrets": "n;:" + firstVersion}, codes.InvalidArgument, `secrets[1]: the name "" is not 1 to 127 letters, digits and hyphens`},
		"blank within":       {attributes{"secrets": "n;a :" + firstVersion}, codes.InvalidArgument, `secrets[1]: the name "a " is not 1 to 127 letters, digits and hyphens`},
		"blank in a version": {attributes{"secrets": "n;c: " + firstVersion}, codes.InvalidArgument, `secrets[1]: the version " ` + firstVersion + `" is not 32 hexadecimal digits`},
		"missing":            {attributes{"secrets": "n;missing"}, codes.NotFound, "there is no such object; check the name, or recover it if it was deleted"},
		"missing version":    {attributes{"secrets": "n;c:" + firstVersion}, codes.NotFound, "there is no such object, or not in this version; check both, or recover it if it was deleted"},
		"disabled":           {attributes{"secrets": "n;off"}, codes.FailedPrecondition, "HTTP 403 Forbidden, SecretDisabled: it is disabled; enable it, or mark the object optional"},
		"public, missing":    {attributes{"secrets": "n", "certificates": "missing"}, codes.NotFound, "there is no such object; check the name, or recover it if it was deleted"},
		"public, a plain secret": {attributes{"certificates": "n"}, codes.NotFound,
			"there is no such object; check the name, or recover it if it was deleted"},
		// It failed at the content of these.
		"certfile on a plain secret":             {attributes{"secrets": "n::x.pem"}, codes.FailedPrecondition, "secrets[0]: " + plain},
		"certfile and keyfile on a plain secret": {attributes{"secrets": "n::x.crt:x.key"}, codes.FailedPrecondition, "secrets[0]: " + plain},
		"PFX without a key":                      {attributes{"secrets": "n;locked"}, codes.FailedPrecondition, secret("locked") + noKey},
		"PEM without a key":                      {attributes{"secrets": "n;locked-pem"}, codes.FailedPrecondition, secret("locked-pem") + noKey},
		"PFX without a certificate":              {attributes{"secrets": "n;no-certificate"}, codes.FailedPrecondition, secret("no-certificate") + "holds no certificate"},
		"PFX with a password":                    {attributes{"secrets": "n;password"}, codes.FailedPrecondition, secret("password") + "is not a readable PKCS#12 file without a password"},
		"no PFX":                                 {attributes{"secrets": "n;no-pfx"}, codes.FailedPrecondition, secret("no-pfx") + "is not a readable PKCS#12 file without a password"},
		"no base64":                              {attributes{"secrets": "n;no-base64"}, codes.FailedPrecondition, secret("no-base64") + "is not the base64 text of a PKCS#12 file"},
		"no PEM":                                 {attributes{"secrets": "n;no-pem"}, codes.FailedPrecondition, secret("no-pem") + "is not readable PEM"},
		"no content type":                        {attributes{"secrets": "n;no-type"}, codes.FailedPrecondition, secret("no-type") + noCert},
		"another content type":                   {attributes{"secrets": "n;text"}, codes.FailedPrecondition, secret("text") + noCert},
		// It wrote these to the same file, and the last one remained.
		"two versions, one file":     {attributes{"secrets": "c;c:" + secondVersion}, codes.InvalidArgument, `secrets[1]: writes "secrets/c", which secrets[0] writes already`},
		"two certificates, one file": {attributes{"secrets": "c::x.pem;d::x.pem"}, codes.InvalidArgument, `secrets[1]: writes "certs/x.pem", which secrets[0] writes already`},
		"certificate over its key":   {attributes{"secrets": "c::k.pfx:k", "savePFX": "true"}, codes.InvalidArgument, `secrets[0]: writes "certs_keys/k.pfx" twice`},
		"a PFX over another's key":   {attributes{"secrets": "c::x;d::x.pfx", "savePFX": "true"}, codes.InvalidArgument, `secrets[1]: writes "keys/x.pfx", which secrets[0] writes already`},
		// It parsed these as false.
		"a truth value in other words": {attributes{"secrets": "n", "savePFX": "yes"}, codes.InvalidArgument, `savePFX: "yes" must be true or false`},
		"1":                            {attributes{"secrets": "n", "downloadCACertificates": "1"}, codes.InvalidArgument, `downloadCACertificates: "1" must be true or false`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refuses(t, n, row.attributes, row.code, row.ending)
		})
	}
}
