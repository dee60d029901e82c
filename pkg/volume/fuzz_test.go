package volume_test

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// FuzzParse tests what the callers of Parse rely on, for any input. The rules are written here a second time, independent of
// Parse.
func FuzzParse(f *testing.F) {
	type seed struct{ key, value, vault, secrets, certificates, objects string }
	for _, s := range []seed{
		{"savePFX", "true", "myvault", "a;b:" + version + ";c::x.crt:x.key", "a", ""},
		{"downloadCACertificates.a", "false", "https://myvault.vault.azure.net/", "*", "b::c", "- secrets: {prefix: a, tags: {b: c}}\n  path: d"},
		{"chainOrder", "pfx", "https://MYVAULT.vault.azure.net:443", "", "", "- certificate: w\n  pem: a/b\n  pfx: a/c\n  keyFormat: sec1\n- key: k"},
		{"identity", "managed", "http://x", ";;a b", "..", "- &a {secret: x}\n- *a"},
		{"tenantID", "auto", "", "a::../x", "a;a;b::a", "[{secret: a, path: ../x, mode: 0440, vault: other, optional: true}]"},
	} {
		f.Add(s.key, s.value, s.vault, s.secrets, s.certificates, s.objects)
	}
	f.Fuzz(func(t *testing.T, key, value, vault, secrets, certificates, objects string) {
		attributes := valid(pairs{
			"vault": vault, "secrets": secrets, "certificates": certificates, "objects": objects, "timeout": "-", key: value,
		})
		_, err := volume.Parse(attributes, pairs{
			"clientsecret": plantedSecret, "ClientCertificate": plantedPEM, volume.KubeletTokens: podTokens(),
		}, volume.Defaults{})
		if !errors.Is(err, volume.ErrInvalid) {
			t.Fatalf("a Secret with two logins is refused with %v", err)
		}
		checkFuzzedError(t, err)

		request, err := volume.Parse(attributes, pairs{"clientsecret": plantedSecret}, volume.Defaults{})
		if err != nil {
			checkFuzzedError(t, err)
			return
		}
		checkFuzzedRequest(t, request)
	})
}

func checkFuzzedError(t *testing.T, err error) {
	t.Helper()
	text := err.Error()
	var problems volume.Problems
	switch {
	case !errors.Is(err, volume.ErrInvalid) || !errors.As(err, &problems) || len(problems) == 0:
		t.Fatalf("%q is not a list of problems", text)
	case strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }):
		t.Fatalf("%q is not a line of ASCII", text)
	case len(text) > 8<<10:
		t.Fatalf("the text has %d bytes", len(text))
	// The beginning of the claims of the pod's token. A shorter text can be part of a quoted name by chance.
	case strings.Contains(text, "planted") || strings.Contains(text, "eyJzdWIi"):
		t.Fatalf("%q gives a secret away", text)
	}
}

var (
	namePattern    = regexp.MustCompile(`^[0-9a-zA-Z-]{1,127}$`)
	versionPattern = regexp.MustCompile(`^([0-9a-f]{32})?$`)
	vaultPattern   = regexp.MustCompile(`^https://[a-z][a-z0-9-]{1,22}[a-z0-9]\.vault\.azure\.net$`)
	guidPattern    = regexp.MustCompile(`^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})?$`)
	tenantPattern  = regexp.MustCompile(`^[0-9a-z.-]*$`)
	pointerPattern = regexp.MustCompile(`^(/([^~/]|~[01])*)*$`) // RFC 6901, section 3
)

func checkFuzzedRequest(t *testing.T, r volume.Request) {
	t.Helper()
	id := r.Identity
	if !guidPattern.MatchString(id.ClientID) || !guidPattern.MatchString(id.ObjectID) || !tenantPattern.MatchString(id.TenantID) {
		t.Fatalf("identity %+v", id)
	}
	if r.Timeout <= 0 || r.Timeout > 110*time.Second || r.RotationInterval != 0 && r.RotationInterval < 30*time.Second {
		t.Fatalf("timeout %v, rotation interval %v", r.Timeout, r.RotationInterval)
	}
	if len(r.Objects) > 4*4096 { // three lists, and the entries of files
		t.Fatalf("%d objects", len(r.Objects))
	}
	tree := make(map[string]string) // path to kind and source; folders have a slash at their end
	for _, folder := range r.Folders {
		tree[folder+"/"] = "folder"
	}
	var last *volume.ValueFile
	names := map[string]bool{}
	for _, o := range r.Objects {
		selected := o.Kind == volume.KindSelection
		if selected {
			each := o.Selection.Each("Any-Name")
			if o.Name != "" || each.Vault != o.Vault || each.Source != o.Source || !each.Optional || each.Kind != volume.KindSecret {
				t.Fatalf("selection %+v of %+v", each, o)
			}
			o = each
		} else if o.Selection != nil {
			t.Fatalf("a selection in %+v", o)
		}
		if !namePattern.MatchString(o.Name) || !versionPattern.MatchString(o.Version) ||
			!vaultPattern.MatchString(o.Vault) || strings.Contains(o.Vault, "--") {
			t.Fatalf("object %+v", o)
		}
		for _, output := range append(o.Outputs, o.Split...) {
			checkFuzzedPath(t, output.Path)
			if output.Mode > 0o777 {
				t.Fatalf("mode %v of %q", output.Mode, output.Path)
			}
			if !pointerPattern.MatchString(output.Pointer) || output.Pointer != "" && output.Part != volume.PartField {
				t.Fatalf("pointer %q of %s", output.Pointer, output.Part)
			}
		}
		if o.In != nil {
			if o.In != last {
				lay(t, tree, o.In.Path, o.In.Object())
				last, names = o.In, map[string]bool{}
			}
			if len(o.Outputs) != 1 || o.Outputs[0].Path != o.In.Path || !selected && (o.In.Format.NameProblem(o.Entry) != "" || names[o.Entry]) {
				t.Fatalf("entry %+v", o)
			}
			names[o.Entry] = true
			continue
		}
		if selected {
			continue // whether it writes a file is known after the fetch, where a Tree checks the paths
		}
		for _, output := range o.Outputs {
			lay(t, tree, output.Path, o)
		}
		checkFuzzedPassword(t, o)
	}
	for _, m := range r.Manifests {
		checkFuzzedPath(t, m.Path)
		lay(t, tree, m.Path, volume.Object{Source: m.Source})
	}
}

func checkFuzzedPassword(t *testing.T, o volume.Object) {
	t.Helper()
	hasPFX := slices.ContainsFunc(o.Outputs, func(output volume.Output) bool { return output.Part == volume.PartPFX })
	switch password := o.Password; {
	case password == nil:
		if o.PFXProfile != "" {
			t.Fatalf("a profile in %+v", o)
		}
	case o.Kind != volume.KindCertificate || !hasPFX || o.PFXProfile != volume.PFXModern && o.PFXProfile != volume.PFXLegacy,
		password.Kind != volume.KindSecret || len(password.Outputs) != 0 || password.Password != nil,
		!namePattern.MatchString(password.Name) || !versionPattern.MatchString(password.Version) || !vaultPattern.MatchString(password.Vault):
		t.Fatalf("password %+v of %+v", password, o)
	}
}

func checkFuzzedPath(t *testing.T, path string) {
	t.Helper()
	if !utf8.ValidString(path) || len(path) > 4095 || strings.ContainsFunc(path, unicode.IsControl) {
		t.Fatalf("path %q", path)
	}
	for component := range strings.SplitSeq(path, "/") {
		if component == "" || component == "." || strings.HasPrefix(component, "..") || len(component) > 255 {
			t.Fatalf("path %q", path)
		}
	}
}

func lay(t *testing.T, tree map[string]string, path string, o volume.Object) {
	t.Helper()
	if other, taken := tree[path]; taken && (!strings.HasPrefix(o.Source, "certificates[") || strings.HasPrefix(other, "objects")) {
		t.Fatalf("%s and %s both write %q", other, o.Source, path)
	}
	if _, folder := tree[path+"/"]; folder {
		t.Fatalf("%s writes the folder %q", o.Source, path)
	}
	tree[path] = o.Source
	for i := range path {
		if path[i] != '/' {
			continue
		}
		if other, file := tree[path[:i]]; file {
			t.Fatalf("%s writes the file %q, a folder for %s", other, path[:i], o.Source)
		}
		tree[path[:i+1]] = "folder"
	}
}
