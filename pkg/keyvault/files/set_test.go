package files_test

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/decode"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/files"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const shop = "https://shop.vault.azure.net"

var fetched = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// structured is a request for the objects of a YAML list.
func structured(t *testing.T, yaml string) volume.Request {
	t.Helper()
	r, err := volume.Parse(map[string]string{
		volume.KubeletPodName: "web-1", volume.KubeletPodNamespace: "shop", volume.KubeletPodUID: "33333333-0000-0000-0000-000000000001",
		volume.KubeletServiceAccount: "web", volume.AttributeVault: "shop", volume.AttributeObjects: yaml,
	}, map[string]string{
		volume.SecretClientID: "22222222-0000-0000-0000-000000000001", volume.SecretClientSecret: "the~client~secret",
	}, volume.Defaults{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// contentOf returns the content of a volume from the values of secrets. Those that are not there are absent.
func contentOf(t *testing.T, r volume.Request, secrets map[string]string) (volume.Content, error) {
	t.Helper()
	var objects []volume.Object
	for _, object := range r.Objects {
		if !object.IsList() {
			objects = append(objects, object)
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(secrets)) {
			if strings.HasPrefix(name, object.Selection.Prefix) {
				objects = append(objects, object.Selection.Each(name))
			}
		}
	}
	needed := map[string][]*volume.Object{}
	for i := range objects {
		needed[objects[i].Name] = append(needed[objects[i].Name], &objects[i])
	}
	set := files.New(r, objects, decode.New())
	for _, name := range slices.Sorted(maps.Keys(needed)) {
		value, ok := secrets[name]
		if !ok {
			continue
		}
		v := files.Value{Secret: volume.NewSecret([]byte(value)), Decoded: &decode.Certificate{}}
		if err := set.Add(t.Context(), needed[name], v); err != nil {
			return volume.Content{}, err
		}
	}
	return set.Content(t.Context(), fetched)
}

// object is an object with one file of its own name.
func object(kind volume.Kind, name string, part volume.Part) volume.Object {
	return volume.Object{
		Kind: kind, Source: "objects[0]", Vault: shop, Name: name, KeyFormat: volume.PKCS8, ChainOrder: volume.ChainOrderPFX,
		Outputs: []volume.Output{{Part: part, Path: name}},
	}
}

// pem is a certificate as its secret has it.
func pem(t *testing.T, file string) files.Value {
	t.Helper()
	content, err := os.ReadFile("../certificate/testdata/pem/" + file)
	if err != nil {
		t.Fatal(err)
	}
	return files.Value{
		Secret: volume.NewSecret(content), ContentType: "application/x-pem-file", Version: "v1", Backs: true, Decoded: &decode.Certificate{},
	}
}

func text(value string) files.Value {
	return files.Value{Secret: volume.NewSecret([]byte(value)), Version: "v1", Decoded: &decode.Certificate{}}
}

// The order in which the values are read, which differs each time, is not that of the files, notes and versions.
func TestTheOrderOfValuesDoesNotMatter(t *testing.T) {
	t.Parallel()
	var objects []volume.Object
	for i := range 20 {
		o := object(volume.KindSecret, fmt.Sprint(19-i), volume.PartValue)
		o.ID, o.Source = "id", fmt.Sprintf("objects[%d]", i)
		if i%2 == 0 {
			o.Kind, o.KeyIfExportable = volume.KindCertificate, true
			o.Outputs = []volume.Output{{Part: volume.PartCert, Path: o.Name}}
		}
		objects = append(objects, o)
	}
	r := volume.Request{Objects: objects}
	var want volume.Content
	for i, order := range [][]int{{0, 1}, {19, -1}} {
		set := files.New(r, objects, decode.New())
		var adds sync.WaitGroup
		for at := order[0]; at >= 0 && at < len(objects); at += order[1] {
			v := text("value of " + objects[at].Name)
			if objects[at].Kind == volume.KindCertificate {
				v = pem(t, "rsa-2048.pem")
			}
			adds.Go(func() {
				if err := set.Add(t.Context(), []*volume.Object{&objects[at]}, v); err != nil {
					t.Error(err)
				}
			})
		}
		adds.Wait()
		got, err := set.Content(t.Context(), fetched)
		if err != nil || len(got.Files) != 20 || len(got.Versions) != 20 || len(got.Expiries) != 10 {
			t.Fatalf("%d files, %d versions, %d expiries, %v", len(got.Files), len(got.Versions), len(got.Expiries), err)
		}
		if !slices.IsSortedFunc(got.Files, func(a, b volume.File) int { return cmp.Compare(a.Path, b.Path) }) {
			t.Error("the files are not in the order of their paths")
		}
		if n := len(set.Certificates()); n != 10 {
			t.Errorf("%d certificates, want 10", n)
		}
		if i == 0 {
			want = got
		} else if diff := gocmp.Diff(fmt.Sprint(want), fmt.Sprint(got)); diff != "" {
			t.Errorf("(-forwards +backwards):\n%s", diff)
		}
	}
}

// The password of a PKCS#12 file is a value of its own, which may be read before the certificate or after it.
func TestAPasswordBeforeAndAfter(t *testing.T) {
	t.Parallel()
	certificate := object(volume.KindCertificate, "web", volume.PartPFX)
	certificate.PFXProfile, certificate.Optional = volume.PFXModern, true
	certificate.Password = &volume.Object{Kind: volume.KindSecret, Source: "objects[0].pfxPassword", Vault: shop, Name: "p", Optional: true}
	for _, test := range []struct {
		order []string
		files int
		want  string // the error
	}{
		{[]string{"p", "web"}, 1, ""},
		{[]string{"web", "p"}, 1, ""},
		{[]string{"p"}, 0, ""},
		{nil, 0, ""},
		{[]string{"web"}, 0, `objects[0].pfxPassword: secret "p" of https://shop.vault.azure.net: ` +
			`the certificate is there and its password is not, or is disabled; create or enable it`},
	} {
		objects := []volume.Object{certificate}
		held := &largest{}
		r := volume.Request{Objects: objects, AllVersions: true, Memory: held}
		set := files.New(r, objects, decode.New())
		for _, name := range test.order {
			of, v := &objects[0], pem(t, "rsa-2048.pem")
			v.Size = 1 << 20
			if name == "p" {
				of, v = objects[0].Password, text("the password")
			}
			if err := set.Add(t.Context(), []*volume.Object{of}, v); err != nil {
				t.Fatal(err)
			}
		}
		if want := slices.Contains(test.order, "web"); held.bytes >= 1<<20 != want {
			t.Errorf("%v: %d bytes are held; does the certificate wait for its password: %t", test.order, held.bytes, want)
		}
		content, err := set.Content(t.Context(), fetched)
		if test.want != "" {
			if !errors.Is(err, volume.ErrNotFound) || err.Error() != test.want {
				t.Errorf("%v: %v, want %s", test.order, err, test.want)
			}
			continue
		}
		if err != nil || len(content.Files) != test.files {
			t.Fatalf("%v: %d files, %v", test.order, len(content.Files), err)
		}
		for _, file := range content.Files {
			if _, _, _, err := pkcs12.DecodeChain(file.Data.Reveal(), "the password"); err != nil {
				t.Errorf("%v: %v", test.order, err)
			}
		}
		for i, v := range content.Versions {
			name := []string{"web", "p"}[i]
			if want := !slices.Contains(test.order, name); v.Name != name || v.Absent != want {
				t.Errorf("%v: version %d is %+v", test.order, i, v)
			}
		}
	}
}

// An optional object that is absent has no files. It is among the versions, as absent, only if the request asks for all
// versions.
func TestAbsentObjects(t *testing.T) {
	t.Parallel()
	for _, all := range []bool{false, true} {
		objects := []volume.Object{object(volume.KindSecret, "gone", volume.PartValue), object(volume.KindSecret, "there", volume.PartValue)}
		objects[0].ID, objects[1].ID, objects[0].Optional = "0", "1", true
		set := files.New(volume.Request{Objects: objects, AllVersions: all}, objects, decode.New())
		if err := set.Add(t.Context(), []*volume.Object{&objects[1]}, text("value")); err != nil {
			t.Fatal(err)
		}
		content, err := set.Content(t.Context(), fetched)
		if err != nil {
			t.Fatal(err)
		}
		want := []volume.Version{{ID: "1", Source: "objects[0]", Kind: volume.KindSecret, Vault: shop, Name: "there", Version: "v1", Paths: []string{"there"}}}
		if all {
			want = append([]volume.Version{{ID: "0", Source: "objects[0]", Kind: volume.KindSecret, Vault: shop, Name: "gone", Absent: true}}, want...)
		}
		if diff := gocmp.Diff(want, content.Versions); diff != "" || len(content.Files) != 1 || !content.Fetched.Equal(fetched) {
			t.Errorf("%d files of %v (-want +got):\n%s", len(content.Files), content.Fetched, diff)
		}
	}
}

// Objects of one value have their files from it, each with its own encoding, and its certificate counts once.
func TestObjectsOfOneValue(t *testing.T) {
	t.Parallel()
	leaf, chain := object(volume.KindCertificate, "leaf", volume.PartCert), object(volume.KindCertificate, "chain", volume.PartChain)
	raw := object(volume.KindSecret, "raw", volume.PartValue)
	objects := []volume.Object{leaf, chain, raw}
	v := pem(t, "rsa-2048.pem")
	v.Tags = map[string]string{"file-encoding": "base64"}
	decoders := decode.New()
	set := files.New(volume.Request{Objects: objects}, objects, decoders)
	if err := set.Add(t.Context(), []*volume.Object{&objects[0], &objects[1], &objects[2]}, v); err != nil {
		t.Fatal(err)
	}
	content, err := set.Content(t.Context(), fetched)
	if err != nil || len(content.Files) != 3 || decoders.Begun.Load() != 1 {
		t.Fatalf("%d files after %d decodings, %v", len(content.Files), decoders.Begun.Load(), err)
	}
	chained, single, stored := content.Files[0].Data.Reveal(), content.Files[1].Data.Reveal(), content.Files[2].Data.Reveal()
	if !bytes.HasPrefix(chained, single) || !bytes.Equal(stored, v.Secret.Reveal()) {
		t.Errorf("the chain\n%s\ndoes not begin with\n%s\nor the value is not as it was stored", chained, single)
	}
	if got := set.Certificates(); len(got) != 1 || got[0].Vault != shop || got[0].Name != "leaf" || got[0].NotAfter.IsZero() || got[0].Gap {
		t.Errorf("the certificates are %+v", got)
	}

	tagged := object(volume.KindSecret, "tagged", volume.PartValue)
	tagged.HonourEncodingTag = true
	encoded := text(base64.StdEncoding.EncodeToString([]byte("\x00value")))
	encoded.Tags = v.Tags
	one := []volume.Object{tagged}
	set = files.New(volume.Request{Objects: one}, one, decoders)
	if err := set.Add(t.Context(), []*volume.Object{&one[0]}, encoded); err != nil {
		t.Fatal(err)
	}
	content, err = set.Content(t.Context(), fetched)
	if err != nil || string(content.Files[0].Data.Reveal()) != "\x00value" {
		t.Errorf("%v, %v", content.Files, err)
	}
}
