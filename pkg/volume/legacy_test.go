package volume_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// line returns an object as text: name@version, whether it needs a certificate, then each output.
func line(o volume.Object) string {
	var b strings.Builder
	b.WriteString(o.Source + " " + o.Name + "@" + o.Version)
	if o.NeedsCertificate {
		b.WriteString(" needs certificate")
	}
	for _, output := range o.Outputs {
		b.WriteString(" " + string(output.Part) + "=" + output.Path)
	}
	for _, output := range o.Split {
		b.WriteString(" (" + string(output.Part) + "=" + output.Path + ")")
	}
	return b.String()
}

func lines(objects []volume.Object) (all []string) {
	for _, o := range objects {
		all = append(all, line(o))
	}
	return all
}

func TestSecretsGrammar(t *testing.T) {
	t.Parallel()
	const v = version
	plain := func(position, name, version string) string {
		return "secrets[" + position + "] " + name + "@" + version + " value=secrets/" + name +
			" (key=keys/" + name + ") (chain=certs/" + name + ")"
	}
	for name, row := range map[string]struct {
		secrets string
		change  pairs
		want    []string
	}{
		"name":                   {"n", nil, []string{plain("0", "n", "")}},
		"empty version":          {"n:", nil, []string{plain("0", "n", "")}},
		"version":                {"n:" + v, nil, []string{plain("0", "n", v)}},
		"upper case":             {"n:" + strings.ToUpper(v), nil, []string{plain("0", "n", v)}},
		"blank segments":         {";; a ;\n\t;b\n;", nil, []string{plain("0", "a", ""), plain("1", "b", "")}},
		"the same twice":         {"a;a:;b;a", nil, []string{plain("0", "a", ""), plain("2", "b", "")}},
		"the same version twice": {"a:" + v + ";a:" + strings.ToUpper(v), nil, []string{plain("0", "a", v)}},
		"names in two cases":     {"a;A", nil, []string{plain("0", "a", ""), plain("1", "A", "")}},
		"certfile": {"n:" + v + ":c.pem", nil, []string{
			"secrets[0] n@" + v + " needs certificate value=secrets/n (key=keys/c.pem) (chain=certs/c.pem)",
		}},
		"certfile and keyfile": {"n::c.pem:k.pem", nil, []string{
			"secrets[0] n@ needs certificate value=secrets/n (key=certs_keys/k.pem) (chain=certs_keys/c.pem)",
		}},
		"certfile is the name": {"n::n", nil, []string{plain("0", "n", "")}},
		"certfile is the name, keyfile is not": {"n::n:k", nil, []string{
			"secrets[0] n@ value=secrets/n (key=certs_keys/k) (chain=certs_keys/n)",
		}},
		"more parts": {"n::c:k:x:y", nil, []string{
			"secrets[0] n@ needs certificate value=secrets/n (key=certs_keys/k) (chain=certs_keys/c)",
		}},
		"inner blanks in file names": {"n::my cert: my key", nil, []string{
			"secrets[0] n@ needs certificate value=secrets/n (key=certs_keys/ my key) (chain=certs_keys/my cert)",
		}},
		"savePFX": {"n;m::c:k", pairs{"savePFX": "TRUE"}, []string{
			"secrets[0] n@ value=secrets/n (key=keys/n) (pfx=keys/n.pfx) (chain=certs/n)",
			"secrets[1] m@ needs certificate value=secrets/m (key=certs_keys/k) (pfx=certs_keys/k.pfx) (chain=certs_keys/c)",
		}},
		"no CAs": {"n", pairs{"downloadCACertificates": "False"}, []string{
			"secrets[0] n@ value=secrets/n (key=keys/n) (cert=certs/n)",
		}},
		"CAs by name": {"My-C;n", pairs{"downloadCACertificates": "false", "downloadCACertificates.my-c": "true"}, []string{
			plain("0", "My-C", ""), "secrets[1] n@ value=secrets/n (key=keys/n) (cert=certs/n)",
		}},
		"no CAs by name": {"my-c;n", pairs{"downloadCACertificates.MY-C": "FALSE"}, []string{
			"secrets[0] my-c@ value=secrets/my-c (key=keys/my-c) (cert=certs/my-c)", plain("1", "n", ""),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request := mustParse(t, valid(row.change, pairs{"secrets": row.secrets}), nil)
			if diff := cmp.Diff(row.want, lines(request.Objects)); diff != "" {
				t.Errorf("objects (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSecretsRefused(t *testing.T) {
	t.Parallel()
	const (
		name    = " is not 1 to 127 letters, digits and hyphens"
		version = " is not 32 hexadecimal digits"
		plain   = " is not a plain file name"
	)
	for list, want := range map[string]string{
		"a :v":                           `secrets[0]: the name "a "` + name,
		"a;b;.. ":                        `secrets[2]: the name ".."` + name,
		":v":                             `secrets[0]: the name ""` + name,
		"a/b":                            `secrets[0]: the name "a/b"` + name,
		"a;;\n;\u00e4":                   `secrets[1]: the name "\u00e4"` + name,
		strings.Repeat("a", 128):         `secrets[0]: the name "` + strings.Repeat("a", 64) + `"...` + name,
		"a: v":                           `secrets[0]: the version " v"` + version,
		"a:latest":                       `secrets[0]: the version "latest"` + version + ", leave it out for the latest",
		"a:" + strings.Repeat("f", 33):   `secrets[0]: the version "` + strings.Repeat("f", 33) + `"` + version,
		"a::":                            `secrets[0]: the certfile "" is empty`,
		"a:::k":                          `secrets[0]: the certfile "" is empty`,
		"a::c:":                          `secrets[0]: the keyfile "" is empty`,
		"c::../../x:/abs":                `secrets[0]: the certfile "../../x" is not a plain file name; secrets[0]: the keyfile "/abs"` + plain,
		"c::..":                          `secrets[0]: the certfile ".."` + plain,
		"c::.":                           `secrets[0]: the certfile "."` + plain,
		"c::..data":                      `secrets[0]: the certfile "..data"` + plain,
		"c::a\x00b":                      `secrets[0]: the certfile "a\x00b" holds a control character`,
		"c::a\u0085b":                    `secrets[0]: the certfile "a\u0085b" holds a control character`,
		"c::\xff":                        `secrets[0]: the certfile "\xff" is not valid UTF-8`,
		"c::" + strings.Repeat("x", 256): `secrets[0]: the certfile "` + strings.Repeat("x", 64) + `"... is longer than 255 bytes`,
		"a;*":                            `secrets[1]: "*" must stand alone`,
		"*:" + version:                   `secrets[0]: "*" must stand alone`,
		"a;a::c":                         `secrets[1]: writes "secrets/a", which secrets[0] writes already`,
		"a::s:k;b::s:l":                  `secrets[1]: writes "certs_keys/s", which secrets[0] writes already`,
		"a::x.pem;b::x.pem":              `secrets[1]: writes "keys/x.pem", which secrets[0] writes already; secrets[1]: writes "certs/x.pem", which secrets[0] writes already`,
	} {
		t.Run(list, func(t *testing.T) {
			t.Parallel()
			_, err := volume.Parse(valid(pairs{"secrets": list}), nil, volume.Defaults{})
			checkError(t, err, want)
		})
	}
	refuse(t, map[string]refusal{
		"PFX on the certificate":      {pairs{"secrets": "a::k.pfx:k", "savePFX": "true"}, nil, `secrets[0]: writes "certs_keys/k.pfx" twice`},
		"CA attribute without a name": {pairs{"downloadCACertificates.": "true"}, nil, `downloadCACertificates.: the name "" is not 1 to 127 letters, digits and hyphens`},
		"CA attribute of no value":    {pairs{"downloadCACertificates.db-password": "1"}, nil, `downloadCACertificates.db-password: "1" must be true or false`},
		"CA attribute in two spellings": {pairs{"downloadCACertificates.db-password": "true", "downloadCACertificates.DB-password": "false"}, nil,
			"downloadCACertificates.db-password: is there in another spelling with another value"},
	})
}

func TestCertificatesGrammar(t *testing.T) {
	t.Parallel()
	request := mustParse(t, valid(pairs{"secrets": "a", "certificates": "a;b:" + version + ":x.pem:ignored;c::x.pem;a"}), nil)
	want := []string{
		"secrets[0] a@ value=secrets/a (key=keys/a) (chain=certs/a)",
		"certificates[0] a@ leaf76=certs/a",
		"certificates[1] b@" + version + " leaf76=certs/x.pem",
		"certificates[2] c@ leaf76=certs/x.pem", // the later one wins, as with the predecessor
	}
	if diff := cmp.Diff(want, lines(request.Objects)); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
	refuse(t, map[string]refusal{
		"*": {pairs{"certificates": "*"}, nil,
			`certificates[0]: "*" stands for all secrets, in the attribute secrets only, name the certificates`},
		"* in a list": {pairs{"certificates": "a;*"}, nil, `certificates[1]: "*" must stand alone`},
		"certfile":    {pairs{"certificates": "ok;a::b/c"}, nil, `certificates[1]: the certfile "b/c" is not a plain file name`},
		"keyfile":     {pairs{"certificates": "a::b:"}, nil, `certificates[0]: the keyfile "" is empty`},
	})
}

func TestEverySecret(t *testing.T) {
	t.Parallel()
	for _, list := range []string{"*", " *\n", ";*;"} {
		request := mustParse(t, valid(pairs{"secrets": list, "savePFX": "true", "downloadCACertificates.web": "false"}), nil)
		if len(request.Objects) != 1 || request.Objects[0].Kind != volume.KindSelection {
			t.Fatalf("%q: objects %v", list, lines(request.Objects))
		}
		all := request.Objects[0]
		if all.Source != "secrets[0]" || all.Vault != "https://myvault.vault.azure.net" || all.Selection.Prefix != "" || all.Selection.Tags != nil {
			t.Errorf("%q: %+v", list, all)
		}
		named := mustParse(t, valid(pairs{"secrets": "Web", "savePFX": "true", "downloadCACertificates.web": "false"}), nil)
		want := named.Objects[0]
		want.Optional = true        // it may be deleted between the list and the get
		want.KeyIfExportable = true // one key that is not exportable is no reason to refuse all secrets
		if diff := cmp.Diff(want, all.Selection.Each("Web")); diff != "" {
			t.Errorf("%q: object (-want +got):\n%s", list, diff)
		}
	}
}

// Manifests can share settings without sharing lists.
func TestDownloadCAOfANameThatIsNotListed(t *testing.T) {
	t.Parallel()
	for name, attributes := range map[string]pairs{
		"another secret": {"downloadCACertificates.b": "false"},
		"no secrets":     {"secrets": "-", "certificates": "b", "downloadCACertificates.b": "true"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := volume.Parse(valid(attributes), nil, volume.Defaults{}); err != nil {
				t.Error(err)
			}
		})
	}
}
