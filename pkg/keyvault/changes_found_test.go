package keyvault_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Every kind of change is in the volume after one refresh, and only the object that has changed is read.
func TestChangesAreFound(t *testing.T) {
	t.Parallel()
	tls := only(allParts("tls"), volume.PartCert)
	public := only(allParts("public"), volume.PartLeaf76)
	public.Kind = volume.KindPublicCertificate
	optional := secret("a")
	optional.Optional = true
	none := func(*fixture) {}
	var backup devcloud.Backup // of one row
	for name, test := range map[string]struct {
		object volume.Object
		before func(w *fixture) // the volume is fetched
		change func(w *fixture)
		reads  int    // objects that exist
		gone   bool   // the file is
		fails  string // the end of the error
	}{
		"nothing": {secret("a"), none, none, 0, false, ""},
		"a new version": {secret("a"), none, func(w *fixture) {
			w.vault.SetSecret("a", "new", devcloud.SecretOptions{})
		}, 1, false, ""},
		"a new version with an older date": {secret("a"), none, func(w *fixture) {
			w.vault.SetSecret("a", "new", devcloud.SecretOptions{Created: w.began.Add(-time.Hour)})
		}, 1, false, ""},
		"disabled": {secret("a"), none, func(w *fixture) {
			w.must(w.vault.Disable(devcloud.Secrets, "a", ""))
		}, 0, false, "it is disabled; enable it, or mark the object optional"},
		"disabled, optional": {optional, none, func(w *fixture) {
			w.must(w.vault.Disable(devcloud.Secrets, "a", ""))
		}, 0, true, ""},
		"disabled and enabled": {secret("a"), none, func(w *fixture) {
			w.must(w.vault.Disable(devcloud.Secrets, "a", ""))
			w.later(10 * time.Second)
			w.must(w.vault.Enable(devcloud.Secrets, "a", ""))
		}, 1, false, ""},
		"tags": {secret("a"), none, func(w *fixture) {
			w.must(w.vault.ChangeSecret("a", "", devcloud.SecretChange{Tags: map[string]string{"env": "prod"}}))
		}, 1, false, ""},
		"expiry": {secret("a"), none, func(w *fixture) {
			w.must(w.vault.ChangeSecret("a", "", devcloud.SecretChange{Expires: new(w.now().Add(time.Hour))}))
		}, 1, false, ""},
		"an older version": {secret("a"), none, func(w *fixture) {
			w.must(w.vault.Disable(devcloud.Secrets, "a", oldVersion))
		}, 0, false, ""},
		"deleted": {secret("a"), none, func(w *fixture) {
			w.must(w.vault.Delete(devcloud.Secrets, "a"))
		}, 0, false, "there is no such object; check the name, or recover it if it was deleted"},
		"deleted and recovered": {secret("a"), none, func(w *fixture) {
			w.must(w.vault.Delete(devcloud.Secrets, "a"))
			w.must(w.vault.Recover(devcloud.Secrets, "a"))
		}, 0, false, ""},
		"purged and made again": {secret("a"), none, func(w *fixture) {
			w.must(w.vault.Delete(devcloud.Secrets, "a"))
			w.vault.SetSecret("a", "new", devcloud.SecretOptions{})
		}, 1, false, ""},
		"an older backup is restored": {secret("a"), func(w *fixture) {
			var err error
			backup, err = w.vault.Backup(devcloud.Secrets, "a")
			w.must(err)
			w.vault.SetSecret("a", "newer than the backup", devcloud.SecretOptions{})
		}, func(w *fixture) {
			w.must(w.vault.Delete(devcloud.Secrets, "a"))
			w.must(w.vault.Restore(backup))
		}, 1, false, ""},
		"the same backup is restored": {secret("a"), none, func(w *fixture) {
			same, err := w.vault.Backup(devcloud.Secrets, "a")
			w.must(err)
			w.must(w.vault.Delete(devcloud.Secrets, "a"))
			w.must(w.vault.Restore(same))
		}, 0, false, ""},
		"a certificate is renewed": {tls, none, func(w *fixture) {
			w.certificate("tls", devcloud.CertificateOptions{CommonName: "new"})
		}, 1, false, ""},
		"a certificate is imported": {tls, none, func(w *fixture) {
			w.certificate("tls", devcloud.CertificateOptions{PEM: w.pem()})
		}, 1, false, ""},
		"a certificate is disabled": {tls, none, func(w *fixture) {
			w.must(w.vault.Disable(devcloud.Certificates, "tls", ""))
		}, 0, false, "it is disabled; enable it, or mark the object optional"},
		"a renewal is pending": {tls, none, func(w *fixture) {
			w.certificate("tls", devcloud.CertificateOptions{Pending: true})
		}, 0, false, ""},
		"a public certificate is renewed": {public, none, func(w *fixture) {
			w.certificate("public", devcloud.CertificateOptions{CommonName: "new"})
		}, 1, false, ""},
		"a public certificate is renewed in the second of the old one": {public, none, func(w *fixture) {
			w.certificate("public", devcloud.CertificateOptions{CommonName: "new", Created: w.began})
		}, 1, false, ""},
		"a public certificate does not change": {public, none, none, 0, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTimedFixture(t)
			w.vault.SetSecret("a", "old", devcloud.SecretOptions{Version: oldVersion})
			w.vault.SetSecret("a", "value", devcloud.SecretOptions{})
			for _, name := range []string{"tls", "public"} {
				w.certificate(name, devcloud.CertificateOptions{Created: w.began})
			}
			others := w.set(5, "other")
			for i := range 5 {
				name := fmt.Sprint("z-other", i)
				w.certificate(name, devcloud.CertificateOptions{KeyType: devcloud.P256})
				other := only(public, volume.PartLeaf76)
				other.Name, other.Outputs[0].Path = name, name
				others = append(others, other)
			}
			w.later(time.Hour)
			test.before(w)
			r := lists(w.asServicePrincipal(append(others, test.object)...))
			w.settle("volume", r)
			before, c := w.refreshed("volume", r)
			if want := (cost{2, 0}); c != want {
				t.Fatalf("before the change %+v, want %+v", c, want)
			}
			w.later(10 * time.Second)
			test.change(w)

			w.later(interval + 10*time.Second)
			w.ResetCounts()
			content, err := w.client.Fetch(t.Context(), refresh("volume", r))
			if !strings.HasSuffix(errorText(err), test.fails) || (err == nil) != (test.fails == "") {
				t.Fatalf("%v, want the end %q", err, test.fails)
			}
			if got, want := w.cost(), (cost{2, test.reads}); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
			if err != nil {
				return
			}
			// What a driver that reads everything would have now.
			w.client = w.newClient()
			r.ChangeDetection = volume.DetectByReading
			want := w.fetch(first("another", r))
			got := map[string]string{}
			for _, file := range content.Files {
				got[file.Path] = string(file.Data.Reveal())
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-by reading +by listing):\n%s", diff)
			}
			path := test.object.Outputs[0].Path
			if _, there := got[path]; there == test.gone {
				t.Errorf("the file is there: %t", there)
			}
			if test.reads == 0 && !test.gone && got[path] != before[path] {
				t.Error("the file has changed, and this row says that it does not")
			}
		})
	}
}

// pem is a certificate that another vault has issued.
func (w *fixture) pem() []byte {
	w.t.Helper()
	made, err := w.addVault("maker", tenantID).SetCertificate("x", devcloud.CertificateOptions{ContentType: devcloud.PEMFile})
	w.must(err)
	return []byte(made.Value)
}

const oldVersion = "0123456789abcdef0123456789abcdef"

// Two changes in one second leave the same times in the list. The driver relies only on a read that is at least a minute
// later than the change: otherwise the next refresh reads again.
func TestTwoChangesInASecond(t *testing.T) {
	t.Parallel()
	for _, late := range []time.Duration{0, 500 * time.Millisecond, time.Second, 59 * time.Second, time.Minute, 2 * time.Minute} {
		w := newTimedFixture(t)
		r := lists(w.asServicePrincipal(w.set(10, "s")...))
		w.later(time.Hour)
		created := w.now()
		w.vault.SetSecret("s00003", "first", devcloud.SecretOptions{Created: created})
		w.later(late)
		w.fetch(first("volume", r))
		w.vault.SetSecret("s00003", "second", devcloud.SecretOptions{Created: created})
		files, c := w.refreshed("volume", r)
		// After a minute no vault sets the same time again. The dev cloud does it here, to show that the driver relies on the
		// list.
		want, reads := "second", cost{1, 1}
		if late >= time.Minute {
			want, reads = "first", cost{1, 0}
		}
		if files["s00003"] != want || c != reads {
			t.Errorf("read after %v: %q, %+v, want %q, %+v", late, files["s00003"], c, want, reads)
		}
		for range 2 {
			if files, c = w.refreshed("volume", r); files["s00003"] != want || c != (cost{1, 0}) {
				t.Errorf("read after %v, and later: %q, %+v, want %q", late, files["s00003"], c, want)
			}
		}
	}
}
