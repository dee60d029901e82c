package sync_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// forms are the forms in which a value could be printed.
func forms(value string) []string {
	return []string{value, base64.StdEncoding.EncodeToString([]byte(value)), fmt.Sprintf("%v", []byte(value))}
}

const login = `
secrets:
- name: db-login
  labels: {app: shop}
  annotations: {example.com/team: payments}
  data: {user: db/user, password: db-password}
`

func TestSecretFollowsTheFiles(t *testing.T) {
	t.Parallel()
	n := newSpace(t, "db-login")
	n.configure(t, login)
	fetched := time.Date(2026, 11, 29, 1, 2, 3, 0, time.UTC)
	n.write(t, fetched, "db/user", "shop-user", "db-password", "first-password")
	p := n.run(t)
	s := n.await(t, "db-login", holds("user", "shop-user", "password", "first-password"))
	if s.Type != "Opaque" {
		t.Errorf("the type is %s", s.Type)
	}
	if diff := cmp.Diff(map[string]string{"app": "shop", "sync.keyvault-csi.io/name": "web"}, s.Metadata.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if got := s.Metadata.Annotations["sync.keyvault-csi.io/version"]; got != "2026-11-29T01:02:03Z" {
		t.Errorf("the version is %s", got)
	}
	p.awaitMetric(t, `keyvault_csi_sync_secrets{state="synced"} 1`)
	p.awaitMetric(t, `keyvault_csi_sync_version_timestamp_seconds 1.795914123e+09`)
	if code, text, err := p.fetch(t.Context(), "/readyz"); code != http.StatusOK || err != nil {
		t.Errorf("/readyz: %d %s %v", code, text, err)
	}

	// What others add stays.
	patch := object{"metadata": object{"labels": object{"theirs": "too"}}, "stringData": object{"foreign": "theirs"}}
	if _, err := api.do(t.Context(), "admin", http.MethodPatch, n.secrets()+"/db-login", "application/merge-patch+json", patch, nil); err != nil {
		t.Fatal(err)
	}
	n.write(t, fetched.Add(time.Minute), "db/user", "shop-user", "db-password", "second-password")
	s = n.await(t, "db-login", holds("user", "shop-user", "password", "second-password", "foreign", "theirs"))
	if s.Metadata.Labels["theirs"] != "too" {
		t.Errorf("the labels are %v", s.Metadata.Labels)
	}

	// A key that leaves the configuration leaves the Secret.
	n.configure(t, "secrets: [{name: db-login, data: {password: db-password}}]")
	n.await(t, "db-login", func(s *kubeSecret) error {
		if _, ok := s.Data["user"]; ok || s.Metadata.Labels["app"] != "" || s.Metadata.Annotations["example.com/team"] != "" {
			return fmt.Errorf("the key user, or a label, is still there: %v", s.Metadata)
		}
		return holds("password", "second-password", "foreign", "theirs")(s)
	})
	for path, want := range map[string]int{"/healthz": http.StatusOK, "/other": http.StatusNotFound} {
		if code, _, err := p.fetch(t.Context(), path); code != want || err != nil {
			t.Errorf("%s: %d, %v", path, code, err)
		}
	}
}

// Nothing is written that has not changed: readers would load it again.
func TestOnlyChangesAreWritten(t *testing.T) {
	t.Parallel()
	n := newSpace(t, "one", "two")
	n.configure(t, "secrets: [{name: one, data: {key: one}}, {name: two, data: {key: two}}]")
	n.write(t, time.Now(), "one", "value-of-one", "two", "value-of-two")
	p := n.run(t)
	one := n.await(t, "one", holds("key", "value-of-one"))
	n.await(t, "two", holds("key", "value-of-two"))
	n.write(t, time.Now(), "one", "value-of-one", "two", "next-of-two")
	n.await(t, "two", holds("key", "next-of-two"))
	again := n.await(t, "one", holds())
	if again.Metadata.ResourceVersion != one.Metadata.ResourceVersion {
		t.Error("a Secret was written although its value had not changed")
	}

	p.kill(9)
	n.write(t, time.Now().Add(time.Second), "one", "value-of-one", "two", "next-of-two") // a new pod has a new volume
	p = n.run(t)
	p.awaitMetric(t, `keyvault_csi_sync_secrets{state="synced"} 2`)
	if again = n.await(t, "one", holds()); again.Metadata.ResourceVersion != one.Metadata.ResourceVersion {
		t.Error("a Secret was written at a start although nothing had changed")
	}
}
