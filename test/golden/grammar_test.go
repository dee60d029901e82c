package golden_test

import (
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// TestGrammar tests the grammar of SECRETS_KEYS, name[:version[:certfile[:keyfile]]].
func TestGrammar(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	n.Vault.SetSecret("n", "first", devcloud.SecretOptions{Version: firstVersion})
	n.Vault.SetSecret("n", "second", devcloud.SecretOptions{Version: secondVersion})
	n.Vault.SetSecret("m", "other", devcloud.SecretOptions{})
	old := addCertificate(t, n, "c", devcloud.CertificateOptions{Version: firstVersion})
	c := addCertificate(t, n, "c", devcloud.CertificateOptions{Version: secondVersion})

	both := files{"secrets/n": "second", "secrets/m": "other"}
	own := files{"secrets/c": c.value, "certs_keys/x.crt": c.chain(), "certs_keys/x.key": c.key}
	for name, row := range map[string]struct {
		secrets string
		want    files
	}{
		"n":             {"n", files{"secrets/n": "second"}},
		"n:":            {"n:", files{"secrets/n": "second"}},
		"n:v":           {"n:" + firstVersion, files{"secrets/n": "first"}},
		"another case":  {"N", files{"secrets/N": "second"}}, // names in a vault are case-insensitive, file names are not
		"nothing":       {"", files{}},
		"semicolons":    {";;", files{}},
		"several":       {"n;m", both},
		"empty between": {";n;;m;;", both},
		"the same twice, and again with an empty version": {"n;m;n;n:;m", both},
		"blanks, tabs and line ends around":               {"\n  n\t;\r\n\tm  \n", both},

		"c":                                {"c", files{"secrets/c": c.value, "keys/c": c.key, "certs/c": c.chain()}},
		"c:v":                              {"c:" + firstVersion, files{"secrets/c": old.value, "keys/c": old.key, "certs/c": old.chain()}},
		"c::x":                             {"c::x.pem", files{"secrets/c": c.value, "keys/x.pem": c.key, "certs/x.pem": c.chain()}},
		"c::x:x":                           {"c::x.pem:x.pem", files{"secrets/c": c.value, "keys/x.pem": c.key, "certs/x.pem": c.chain()}},
		"c::x:y":                           {"c::x.crt:x.key", own},
		"c:v:x:y":                          {"c:" + secondVersion + ":x.crt:x.key", own},
		"c::x:y:more parts are ignored":    {"c::x.crt:x.key:a:../b:", own},
		"c::c":                             {"c::c", files{"secrets/c": c.value, "keys/c": c.key, "certs/c": c.chain()}},
		"c::c:y":                           {"c::c:y", files{"secrets/c": c.value, "certs_keys/c": c.chain(), "certs_keys/y": c.key}},
		"c::x:c":                           {"c::x:c", files{"secrets/c": c.value, "certs_keys/x": c.chain(), "certs_keys/c": c.key}},
		"blanks within file names stay":    {" c::my cert: my key ", files{"secrets/c": c.value, "certs_keys/my cert": c.chain(), "certs_keys/ my key": c.key}},
		"file names outside ASCII":         {"c::zertifikat-ü.pem:schlüssel", files{"secrets/c": c.value, "certs_keys/zertifikat-ü.pem": c.chain(), "certs_keys/schlüssel": c.key}},
		"hidden file names":                {"c::.crt:.key", files{"secrets/c": c.value, "certs_keys/.crt": c.chain(), "certs_keys/.key": c.key}},
		"two entries of one secret":        {"c;m;c", files{"secrets/c": c.value, "keys/c": c.key, "certs/c": c.chain(), "secrets/m": "other"}},
		"plain, its own name as a file":    {"m::m", files{"secrets/m": "other"}},
		"plain, any name for the key":      {"m::m:key", files{"secrets/m": "other"}},
		"plain, with a version and a name": {"n:" + firstVersion + ":n:key:more", files{"secrets/n": "first"}},

		// The init container asked for a secret without a name, and failed.
		"segments of blanks are dropped":     {"n; ;\t\n;m", both},
		"nothing but a blank":                {" ", files{}},
		"a version in capitals is the same":  {"n:0123456789ABCDEF0123456789ABCDEF", files{"secrets/n": "first"}},
		"the same version in two spellings":  {"n:0123456789ABCDEF0123456789ABCDEF;n:" + firstVersion, files{"secrets/n": "first"}},
		"an asterisk with blanks around it":  {" * ", files{"secrets/n": "second", "secrets/m": "other", "secrets/c": c.value, "keys/c": c.key, "certs/c": c.chain()}},
		"an asterisk between the semicolons": {";*;", files{"secrets/n": "second", "secrets/m": "other", "secrets/c": c.value, "keys/c": c.key, "certs/c": c.chain()}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gives(t, n, attributes{"secrets": row.secrets, "chainOrder": "pfx"}, row.want)
		})
	}
}
