package keyvault_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// withManifest adds a manifest to a request.
func withManifest(r volume.Request, path string, tags bool) volume.Request {
	r.AllVersions = true
	r.Manifests = append(r.Manifests, volume.Manifest{
		Source: fmt.Sprintf("objects[%d]", 90+len(r.Manifests)), Output: volume.Output{Part: volume.PartManifest, Path: path, Mode: 0o440}, Tags: tags,
	})
	return r
}

// selectionAt is a selection whose objects have its source, as those of Parse have.
func selectionAt(source string, s volume.Selection) volume.Object {
	o := selection(s)
	each := o.Selection.Each
	o.Source = source
	o.Selection.Each = func(name string) volume.Object {
		selected := each(name)
		selected.Source = source
		return selected
	}
	return o
}

func TestManifest(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	id := func(digit string) string { return strings.Repeat(digit, 32) }
	expires := time.Date(2027, 3, 1, 12, 0, 0, 0, time.FixedZone("CET", 3600))
	w.vault.SetSecret("s", "planted", devcloud.SecretOptions{Version: id("1"), Expires: &expires, Tags: map[string]string{"env": "<prod>"}})
	w.vault.SetSecret("p", "planted", devcloud.SecretOptions{Version: id("2")})
	w.vault.SetSecret("App-1", "planted", devcloud.SecretOptions{Version: id("3")})
	cert, err := w.vault.SetCertificate("web", devcloud.CertificateOptions{Version: id("4"), Tags: map[string]string{"team": "web"}})
	w.must(err)
	_, err = w.vault.SetKey("k", devcloud.KeyOptions{Version: id("5")})
	w.must(err)
	gone, public, key := secret("gone"), secret("web"), secret("k")
	gone.Optional, gone.Source = true, "objects[1]"
	public.Kind, public.Source, public.Outputs = volume.KindPublicCertificate, "objects[2]", []volume.Output{{Part: volume.PartCert, Path: "leaf"}}
	key.Kind, key.Source, key.Outputs = volume.KindKey, "objects[3]", []volume.Output{{Part: volume.PartPublicKey, Path: "k.pem"}}
	selected := selectionAt("objects[4]", volume.Selection{Prefix: "app-"})
	r := w.asServicePrincipal(protected("web", "p"), secret("s"), gone, public, key, selected)
	r = withManifest(withManifest(r, "v.json", false), "tags/v.json", true)
	files := w.fetch(r)

	const vault = "https://shop.vault.azure.net"
	until := cert.Leaf.NotAfter.UTC().Format(time.RFC3339)
	want := fmt.Sprintf(`{
  "fetched": %q,
  "objects": [
    {
      "source": "objects[0]",
      "kind": "certificate",
      "vault": "https://shop.vault.azure.net",
      "name": "web",
      "version": "44444444444444444444444444444444",
      "expires": %q,
      "notAfter": %[2]q,
      "files": [
        "web.p12"
      ]
    },
    {
      "source": "objects[0].pfxPassword",
      "kind": "secret",
      "vault": "https://shop.vault.azure.net",
      "name": "p",
      "version": "22222222222222222222222222222222"
    },
`, w.began.UTC().Format(time.RFC3339), until)
	if !strings.HasPrefix(files["v.json"], want) {
		t.Errorf("the manifest begins\n%.900s\nwant\n%s", files["v.json"], want)
	}
	type object struct {
		Source, Kind, Vault, Name, Version, Expires, NotAfter string
		Tags                                                  map[string]string
		Absent                                                bool
		Files                                                 []string
	}
	read := func(path string) (all []object) {
		var m struct{ Objects []object }
		decoder := json.NewDecoder(strings.NewReader(files[path]))
		decoder.UseNumber()
		if err := decoder.Decode(&m); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return m.Objects[2:]
	}
	rest := []object{
		{Source: "secrets[0]", Kind: "secret", Vault: vault, Name: "s", Version: id("1"), Expires: "2027-03-01T11:00:00Z", Files: []string{"s"}},
		{Source: "objects[1]", Kind: "secret", Vault: vault, Name: "gone", Absent: true},
		{Source: "objects[2]", Kind: "public certificate", Vault: vault, Name: "web", Version: id("4"), Expires: until, NotAfter: until, Files: []string{"leaf"}},
		{Source: "objects[3]", Kind: "key", Vault: vault, Name: "k", Version: id("5"), Files: []string{"k.pem"}},
		{Source: "objects[4]", Kind: "secret", Vault: vault, Name: "App-1", Version: id("3"), Files: []string{"App-1"}},
	}
	if diff := cmp.Diff(rest, read("v.json")); diff != "" {
		t.Error(diff)
	}
	rest[0].Tags, rest[2].Tags = map[string]string{"env": "<prod>"}, map[string]string{"team": "web"}
	if diff := cmp.Diff(rest, read("tags/v.json")); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(files["tags/v.json"], `"<prod>"`) || strings.Contains(files["v.json"]+files["tags/v.json"], "planted") {
		t.Errorf("the manifest is %s", files["tags/v.json"])
	}
}

// A manifest keeps its time while nothing else in it changes, and only then.
func TestManifestKeepsItsTime(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	w.vault.SetSecret("s", "a", devcloud.SecretOptions{})
	manifest := func() volume.File {
		w.later(time.Hour)
		content, err := w.client.Fetch(t.Context(), withManifest(w.asServicePrincipal(secret("s")), "v.json", false))
		w.must(err)
		return content.Files[1]
	}
	first, second := manifest(), manifest()
	if first.Mode != 0o440 || first.Data.Equal(second.Data) || !second.Keeps(first.Data.Reveal()) {
		t.Error("a manifest does not keep its time")
	}
	w.vault.SetSecret("s", "a", devcloud.SecretOptions{}) // another version of the same value
	third := manifest()
	if third.Keeps(second.Data.Reveal()) {
		t.Error("a manifest keeps the time of another version")
	}
	text := string(second.Data.Reveal())
	for _, other := range []string{
		"", text[:30], text + "\n", strings.Replace(text, `"fetched": "2`, `"fetched": "x`, 1), strings.Replace(text, `"fetched"`, `"Fetched"`, 1),
		strings.Replace(text, `"s"`, `"t"`, 1),
	} {
		if second.Keeps([]byte(other)) {
			t.Errorf("a manifest keeps %q", other)
		}
	}
}

func TestManifestRefused(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	for i := range 20 {
		w.vault.SetSecret(fmt.Sprintf("a-%02d", i), "x", devcloud.SecretOptions{Tags: map[string]string{"note": strings.Repeat("n", 200)}})
	}
	all := selectionAt("objects[0]", volume.Selection{})
	r := withManifest(w.asServicePrincipal(all), "a-01", false)
	w.fails(r, volume.ErrInvalid, `objects[90]: writes "a-01", which objects[0] writes already`)
	r = withManifest(w.asServicePrincipal(all), "v", true)
	const tooLarge = "the volume's content is over the limit of 4000 bytes (--max-volume-bytes); ask for fewer or smaller objects"
	r.Limits.Bytes = 4000
	w.fails(r, volume.ErrTooLarge, tooLarge)
	r.Manifests[0].Tags = false
	w.fails(r, volume.ErrTooLarge, tooLarge)
	r.Limits = volume.Limits{Files: 20}
	w.fails(r, volume.ErrTooLarge, "the volume is over the limit of 20 files (--max-volume-files); ask for fewer objects")
}

// A selected secret that has gone since the list is not one of the set. A request that does not ask has no versions.
func TestVersionsOfSelections(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	w.vault.SetSecret("b", "x", devcloud.SecretOptions{})
	w.inject(devcloud.Fault{Action: devcloud.Fail, Service: devcloud.ServiceVault, Path: "/secrets/b/", Status: 404})
	r := w.asServicePrincipal(selectionAt("objects[0]", volume.Selection{}))
	for _, all := range []bool{false, true} {
		r.AllVersions = all
		content, err := w.client.Fetch(t.Context(), r)
		w.must(err)
		if got := len(content.Versions); len(content.Files) != 1 || got > 1 || (got == 1) != all {
			t.Errorf("AllVersions %t: %d files, versions %+v", all, len(content.Files), content.Versions)
		}
	}
}
