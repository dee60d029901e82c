package keyvault_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// history requests versions of an object as files NAME/0, NAME/1, …
func history(kind volume.Kind, name, from string, most int) volume.Object {
	part := map[volume.Kind]volume.Part{
		volume.KindSecret: volume.PartValue, volume.KindPublicCertificate: volume.PartCert, volume.KindKey: volume.PartPublicKey,
	}[kind]
	o := volume.Object{Kind: kind, Source: "objects[0]", Vault: "https://shop.vault.azure.net", Name: name, Version: from}
	o.History = &volume.History{Most: most, Each: func(index int, version string) volume.Object {
		each := o
		path := fmt.Sprintf("%s/%d", name, index)
		each.History, each.Version, each.ID = nil, version, string(kind)+"/"+path
		each.Outputs = []volume.Output{{Part: part, Path: path}}
		return each
	}}
	return o
}

// addVersions makes versions from the oldest to the newest, and returns their ids.
func (w *fixture) addVersions(kind volume.Kind, name string, n int) (ids []string) {
	w.t.Helper()
	for i := range n {
		id, created := fmt.Sprintf("%032x", (i*7+3)%61), w.began.Add(time.Duration(i-n)*time.Hour) // not in the order of the ids
		var err error
		switch kind {
		case volume.KindPublicCertificate:
			_, err = w.vault.SetCertificate(name, devcloud.CertificateOptions{Version: id, Created: created})
		case volume.KindKey:
			_, err = w.vault.SetKey(name, devcloud.KeyOptions{Version: id, Created: created})
		default:
			w.vault.SetSecret(name, fmt.Sprintf("value %d", i), devcloud.SecretOptions{Version: id, Created: created})
		}
		w.must(err)
		ids = append(ids, id)
	}
	return ids
}

func TestHistory(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	ids := w.addVersions(volume.KindSecret, "db", 5)
	w.must(w.vault.Disable(devcloud.Secrets, "db", ids[2]))
	w.addVersions(volume.KindSecret, "off", 1)
	w.must(w.vault.Disable(devcloud.Secrets, "off", ""))
	w.addVersions(volume.KindSecret, "many", 60) // three pages
	missing := func(what string) string {
		return "objects[0]: the versions of " + what + " of https://shop.vault.azure.net as servicePrincipal " + clientID +
			": the object or that version of it does not exist, or is disabled; check the name and the version, or recover or enable it"
	}
	for name, test := range map[string]struct {
		object volume.Object
		want   []string
		fails  string
	}{
		"three, without a disabled one": {history(volume.KindSecret, "db", "", 3), []string{"value 4", "value 3", "value 1"}, ""},
		"more than there are":           {history(volume.KindSecret, "db", "", 9), []string{"value 4", "value 3", "value 1", "value 0"}, ""},
		"from a version":                {history(volume.KindSecret, "db", ids[3], 2), []string{"value 3", "value 1"}, ""},
		"from a disabled version":       {history(volume.KindSecret, "db", ids[2], 2), []string{"value 1", "value 0"}, ""},
		"of several pages":              {history(volume.KindSecret, "many", "", 2), []string{"value 59", "value 58"}, ""},
		"from an unknown version": {
			history(volume.KindSecret, "db", strings.Repeat("0", 32), 2), nil, missing(`secret "db" version 00000000000000000000000000000000`),
		},
		"all disabled": {history(volume.KindSecret, "off", "", 2), nil, missing(`secret "off"`)},
		"no certificate": {
			history(volume.KindPublicCertificate, "none", "", 2), nil, missing(`public certificate "none"`),
		},
	} {
		t.Run(name, func(t *testing.T) {
			content, err := w.client.Fetch(t.Context(), w.asServicePrincipal(test.object))
			if fmt.Sprint(err) != test.fails && !(err == nil && test.fails == "") {
				t.Fatalf("error %v\nwant  %s", err, test.fails)
			}
			var got []string
			for i, file := range content.Files {
				got = append(got, string(file.Data.Reveal()))
				v := content.Versions[i]
				if want := fmt.Sprintf("secret/%s/%d", test.object.Name, i); v.ID != want || len(v.Version) != 32 || v.Paths[0] != file.Path {
					t.Errorf("version %+v of %s", v, file.Path)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// An object with more versions than are kept in memory: the newest are found, whatever the order of the list.
func TestHistoryOfManyVersions(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	w.vault.SetPageSize(500) // with Key Vault's, a busy machine needs minutes
	const many = 5200
	var middle string
	for i := range many {
		id := fmt.Sprintf("%032x", (i*7+3)%many) // not in the order of the ids
		w.vault.SetSecret("db", fmt.Sprintf("value %d", i), devcloud.SecretOptions{Version: id, Created: w.began.Add(time.Duration(i-many) * time.Hour)})
		if i == many/2 {
			middle = id
		}
	}
	content, err := w.client.Fetch(t.Context(), w.asServicePrincipal(history(volume.KindSecret, "db", "", 2)))
	w.must(err)
	if first, second := string(content.Files[0].Data.Reveal()), string(content.Files[1].Data.Reveal()); first != "value 5199" || second != "value 5198" {
		t.Errorf("the newest are %q and %q", first, second)
	}
	_, err = w.client.Fetch(t.Context(), w.asServicePrincipal(history(volume.KindSecret, "db", middle, 2)))
	if want := "the object has more than 5120 versions; leave the version out, or purge the object"; !errors.Is(err, volume.ErrTooLarge) || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("error %v\nwant  %s", err, want)
	}
}

func TestHistoryOfCertificatesAndKeys(t *testing.T) {
	t.Parallel()
	for kind, begin := range map[volume.Kind]string{
		volume.KindPublicCertificate: "-----BEGIN CERTIFICATE-----", volume.KindKey: "-----BEGIN PUBLIC KEY-----",
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			w := newFixture(t)
			ids := w.addVersions(kind, "x", 3)
			content, err := w.client.Fetch(t.Context(), w.asServicePrincipal(history(kind, "x", "", 2)))
			w.must(err)
			want := []volume.Version{
				{ID: string(kind) + "/x/0", Version: ids[2], Paths: []string{"x/0"}}, {ID: string(kind) + "/x/1", Version: ids[1], Paths: []string{"x/1"}},
			}
			var got []volume.Version
			for _, v := range content.Versions {
				if v.Source != "objects[0]" || v.Kind != kind || v.Name != "x" || v.Absent || v.NotAfter.IsZero() != (kind == volume.KindKey) {
					t.Errorf("version %+v", v)
				}
				got = append(got, volume.Version{ID: v.ID, Version: v.Version, Paths: v.Paths})
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			for _, file := range content.Files {
				if !strings.HasPrefix(string(file.Data.Reveal()), begin) {
					t.Errorf("%s begins with %.30s", file.Path, file.Data.Reveal())
				}
			}
		})
	}
}

// A list of versions is cached as any object, and a version that is known is not read again.
func TestHistoryIsCached(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	w.addVersions(volume.KindSecret, "db", 3)
	r := w.asServicePrincipal(history(volume.KindSecret, "db", "", 2))
	r.Volume, r.Poll, r.RotationInterval = "v", true, 2*time.Minute
	expect := func(when string, lists, values int) {
		t.Helper()
		w.ResetCounts()
		w.fetch(r)
		if got := [2]int{w.Count(devcloud.CountKey{Kind: "secrets/versions", Status: 200}), w.Count(devcloud.CountKey{Kind: "secrets/get", Status: 200})}; got != [2]int{lists, values} {
			t.Errorf("%s: %d lists and %d values were read, want %d and %d", when, got[0], got[1], lists, values)
		}
	}
	expect("first", 1, 2)
	r.Refresh = true
	w.later(119 * time.Second)
	expect("a poll within the interval", 0, 0)
	w.later(30 * time.Second) // also past the random wait
	expect("a poll after the interval", 1, 0)
	w.vault.SetSecret("db", "new", devcloud.SecretOptions{})
	w.later(150 * time.Second)
	expect("a new version", 1, 1)
}

func TestHistoryNeedsTheRightToList(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	w.addVersions(volume.KindSecret, "db", 2)
	w.vault.Deny(clientID, devcloud.SecretsList)
	_, err := w.client.Fetch(t.Context(), w.asServicePrincipal(history(volume.KindSecret, "db", "", 2)))
	for _, part := range []string{`objects[0]: the versions of secret "db"`, "403", `the identity may not do secrets/list; add it to the vault's access policy`} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v\nlacks %s", err, part)
		}
	}
}
