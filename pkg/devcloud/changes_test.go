package devcloud_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

// shownTimes are the times of the current version, in seconds after the first.
type shownTimes struct{ Created, Updated int64 }

// The times that a list shows after each kind of change are those of recorded answers: every change of the current version
// sets "updated", a recovered or restored object keeps its times, and a change of an older version is not in the list.
func TestTimesOfChanges(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	now := began
	cloud, vault := newCloud(t, devcloud.Options{Now: func() time.Time { return now }})
	client := defaultClient(t, cloud, vault)
	seconds := func(at *time.Time) int64 { return int64(at.Sub(began) / time.Second) }
	listed := func() (all map[string]shownTimes) {
		t.Helper()
		page, err := client.NewListSecretPropertiesPager(nil).NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		all = map[string]shownTimes{}
		for _, item := range page.Value {
			all[item.ID.Name()] = shownTimes{seconds(item.Attributes.Created), seconds(item.Attributes.Updated)}
		}
		return all
	}
	var old string
	var backup devcloud.Backup
	for _, step := range []struct {
		name   string
		change func() error
		want   map[string]shownTimes
	}{
		{"set", func() error {
			old = vault.SetSecret("a", "1", devcloud.SecretOptions{})
			_, err := vault.SetCertificate("tls", devcloud.CertificateOptions{})
			return err
		}, map[string]shownTimes{"a": {0, 0}, "tls": {0, 0}}},
		{"a new version", func() error { vault.SetSecret("a", "2", devcloud.SecretOptions{}); return nil }, map[string]shownTimes{"a": {10, 10}, "tls": {0, 0}}},
		{"an older version", func() error { return vault.Disable(devcloud.Secrets, "a", old) }, map[string]shownTimes{"a": {10, 10}, "tls": {0, 0}}},
		{"tags", func() error {
			return vault.ChangeSecret("a", "", devcloud.SecretChange{Tags: map[string]string{"x": "y"}})
		}, map[string]shownTimes{"a": {10, 30}, "tls": {0, 0}}},
		{"a certificate is disabled", func() error { return vault.Disable(devcloud.Certificates, "tls", "") }, map[string]shownTimes{"a": {10, 30}, "tls": {0, 40}}},
		{"deleted", func() error { return vault.Delete(devcloud.Secrets, "a") }, map[string]shownTimes{"tls": {0, 40}}},
		{"recovered", func() error { return vault.Recover(devcloud.Secrets, "a") }, map[string]shownTimes{"a": {10, 30}, "tls": {0, 40}}},
		{"backed up, and changed", func() (err error) {
			backup, err = vault.Backup(devcloud.Secrets, "a")
			vault.SetSecret("a", "3", devcloud.SecretOptions{})
			return err
		}, map[string]shownTimes{"a": {70, 70}, "tls": {0, 40}}},
		{"purged and restored", func() error {
			if err := vault.Delete(devcloud.Secrets, "a"); err != nil {
				return err
			}
			return vault.Restore(backup)
		}, map[string]shownTimes{"a": {10, 30}, "tls": {0, 40}}},
		{"half a second is rounded", func() error {
			now = now.Add(500 * time.Millisecond)
			return vault.ChangeSecret("a", old, devcloud.SecretChange{})
		}, map[string]shownTimes{"a": {10, 30}, "tls": {0, 40}}},
	} {
		if err := step.change(); err != nil {
			t.Fatal(step.name, err)
		}
		if diff := cmp.Diff(step.want, listed()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
		now = now.Add(10 * time.Second)
	}

	// The Date of an answer is of the same clock, and "updated" can be a second later.
	vault.SetSecret("late", "x", devcloud.SecretOptions{})
	var answer *http.Response
	secret, err := client.GetSecret(policy.WithCaptureResponse(t.Context(), &answer), "late", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	date, err := http.ParseTime(answer.Header.Get("Date"))
	if err != nil || seconds(secret.Attributes.Updated)-seconds(&date) != 1 {
		t.Errorf("updated %v, Date %v, %v", secret.Attributes.Updated, date, err)
	}
}
