package secret_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/config"
	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/secret"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	wanted := func(change func(*secret.Wanted)) secret.Wanted {
		w := secret.Wanted{
			Secret: config.Secret{Name: "db", Type: "Opaque", Labels: map[string]string{"app": "shop"}, Data: map[string]string{"key": "file"}},
			Owner:  "web", Version: now.Add(-time.Minute), Values: secret.Values{"key": []byte("value")},
		}
		if change != nil {
			change(&w)
		}
		return w
	}
	// there is the Secret as it was written, with a change.
	there := func(change func(*secret.Secret)) *secret.Secret {
		s := wanted(nil).Manifest(nil)
		s.Metadata.UID, s.Metadata.ResourceVersion = "uid", "7"
		if change != nil {
			change(&s)
		}
		return &s
	}
	written := func(at time.Time) func(*secret.Secret) {
		return func(s *secret.Secret) {
			s.Metadata.Annotations[secret.VersionAnnotation] = at.Format(time.RFC3339Nano)
			s.Data = secret.Values{"key": []byte("other")}
		}
	}
	foreign := func(s *secret.Secret) { s.Metadata.Labels, s.Metadata.Annotations = nil, nil }
	adopt := func(w *secret.Wanted) { w.Adopt = true }
	for name, test := range map[string]struct {
		wanted secret.Wanted
		live   *secret.Secret
		want   secret.Decision
	}{
		"none":        {wanted(nil), nil, secret.Decision{Action: secret.Apply}},
		"same":        {wanted(nil), there(nil), secret.Decision{}},
		"foreign key": {wanted(nil), there(func(s *secret.Secret) { s.Data["more"] = []byte("x") }), secret.Decision{}},
		"older":       {wanted(nil), there(written(now.Add(-time.Hour))), secret.Decision{Action: secret.Apply}},
		"newer":       {wanted(nil), there(written(now)), secret.Decision{Action: secret.Wait, Reason: "NewerVersion"}},
		"from the future": {
			wanted(nil), there(written(now.Add(time.Hour))), secret.Decision{Action: secret.Apply},
		},
		"newer time, same values": {
			wanted(nil), there(func(s *secret.Secret) { s.Metadata.Annotations[secret.VersionAnnotation] = now.Format(time.RFC3339) }), secret.Decision{},
		},
		"label lost": {wanted(nil), there(func(s *secret.Secret) { delete(s.Metadata.Labels, "app") }), secret.Decision{Action: secret.Apply}},
		"other entry": {
			wanted(func(w *secret.Wanted) { w.Labels = nil }), there(nil), secret.Decision{Action: secret.Apply},
		},
		"foreign": {wanted(nil), there(foreign), secret.Decision{Action: secret.Refuse, Reason: "NotOwned"}},
		"adopted": {wanted(adopt), there(foreign), secret.Decision{Action: secret.Apply, Adopt: true}},
		"adopted with an owner": {
			wanted(adopt), there(func(s *secret.Secret) { foreign(s); s.Metadata.OwnerReferences = make([]struct{}, 1) }),
			secret.Decision{Action: secret.Apply, Adopt: true, Release: true},
		},
		"owner of a Secret that was made": {
			wanted(nil), there(func(s *secret.Secret) { s.Metadata.OwnerReferences = make([]struct{}, 1) }), secret.Decision{},
		},
		"owner that came back": {
			wanted(adopt), there(func(s *secret.Secret) {
				s.Metadata.Annotations[secret.AdoptedAnnotation] = "true"
				s.Metadata.OwnerReferences = make([]struct{}, 1)
			}),
			secret.Decision{Release: true},
		},
		"type": {wanted(nil), there(func(s *secret.Secret) { s.Type = "x" }), secret.Decision{Action: secret.Refuse, Reason: "WrongType"}},
		"immutable": {
			wanted(nil), there(func(s *secret.Secret) { s.Immutable = true; s.Data = nil }), secret.Decision{Action: secret.Refuse, Reason: "Immutable"},
		},
		"immutable and right": {wanted(nil), there(func(s *secret.Secret) { s.Immutable = true }), secret.Decision{}},
		"being deleted": {
			wanted(nil), there(func(s *secret.Secret) { s.Metadata.DeletionTimestamp = "2026-11-29T12:00:00Z" }),
			secret.Decision{Action: secret.Wait, Reason: "Deleted"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := test.wanted.Decide(test.live, now)
			if (got.Text != "") != (got.Reason != "") {
				t.Errorf("the text is %q", got.Text)
			}
			got.Text = ""
			if got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}

func TestValuesArePrintedRedacted(t *testing.T) {
	t.Parallel()
	values := secret.Values{"key": []byte("the-value")}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, value := range []any{values, secret.Wanted{Values: values}, &secret.Secret{Data: values}, []secret.Values{values}} {
			if text := fmt.Sprintf(format, value); strings.Contains(text, "the-value") || strings.Contains(text, "7468652d") || strings.Contains(text, "116 104") {
				t.Errorf("%s of %T prints %s", format, value, text)
			}
		}
	}
}
