package secret_test

import (
	"encoding/json"
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
		s.Metadata.ManagedFields = appliedKeys("key")
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
	copied := func(s *secret.Secret) { s.Metadata.ManagedFields = nil }
	foreign := func(s *secret.Secret) { copied(s); s.Metadata.Labels, s.Metadata.Annotations = nil, nil }
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
		"foreign":               {wanted(nil), there(foreign), secret.Decision{Action: secret.Refuse, Reason: "NotOwned"}},
		"copied with its marks": {wanted(nil), there(copied), secret.Decision{Action: secret.Refuse, Reason: "NotOwned"}},
		"written, and not applied, by the manager": {
			wanted(nil), there(func(s *secret.Secret) { s.Metadata.ManagedFields[0].Operation = "Update" }),
			secret.Decision{Action: secret.Refuse, Reason: "NotOwned"},
		},
		"name lost": {wanted(nil), there(func(s *secret.Secret) { delete(s.Metadata.Labels, secret.NameLabel) }), secret.Decision{Action: secret.Apply}},
		"of another": {
			wanted(nil), there(func(s *secret.Secret) { s.Metadata.Labels[secret.NameLabel] = "other" }),
			secret.Decision{Action: secret.Refuse, Reason: "NotOwned"},
		},
		"mark of the adoption lost": {
			wanted(nil), there(func(s *secret.Secret) { delete(s.Metadata.Annotations, secret.AdoptedAnnotation) }), secret.Decision{Action: secret.Apply},
		},
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
		"immutable and a key leaves": {
			wanted(nil), there(func(s *secret.Secret) {
				s.Immutable, s.Data["more"], s.Metadata.ManagedFields = true, []byte("x"), appliedKeys("key", "more")
			}),
			secret.Decision{Action: secret.Refuse, Reason: "Immutable"},
		},
		"immutable with a key of others": {
			wanted(nil), there(func(s *secret.Secret) { s.Immutable, s.Data["more"] = true, []byte("x") }), secret.Decision{},
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

// appliedKeys is what the API server records about a Secret with these keys.
func appliedKeys(keys ...string) []secret.ManagedField {
	fields := map[string]map[string]struct{}{"f:data": {".": {}}}
	for _, key := range keys {
		fields["f:data"]["f:"+key] = struct{}{}
	}
	text, _ := json.Marshal(fields)
	return []secret.ManagedField{{Manager: secret.FieldManager, Operation: "Apply", FieldsV1: text}}
}

// The mark of an adoption that somebody has removed comes back as "true", and only what was made is deleted.
func TestMadeBy(t *testing.T) {
	t.Parallel()
	w := secret.Wanted{Secret: config.Secret{Name: "db", Type: "Opaque"}, Owner: "web", Values: secret.Values{"key": []byte("value")}}
	for name, test := range map[string]struct {
		change func(*secret.Secret)
		made   bool
		mark   string
	}{
		"made":      {func(*secret.Secret) {}, true, "false"},
		"adopted":   {func(s *secret.Secret) { s.Metadata.Annotations[secret.AdoptedAnnotation] = "true" }, false, "true"},
		"mark lost": {func(s *secret.Secret) { delete(s.Metadata.Annotations, secret.AdoptedAnnotation) }, false, "true"},
		"name lost": {func(s *secret.Secret) { delete(s.Metadata.Labels, secret.NameLabel) }, false, "false"},
		"copied":    {func(s *secret.Secret) { s.Metadata.ManagedFields = nil }, false, "true"},
		"no data":   {func(s *secret.Secret) { s.Metadata.ManagedFields = appliedKeys() }, false, "false"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			live := w.Manifest(nil)
			live.Metadata.ManagedFields = appliedKeys("key")
			test.change(&live)
			if got := live.Metadata.MadeBy("web"); got != test.made {
				t.Errorf("made: %v", got)
			}
			if got := w.Manifest(&live).Metadata.Annotations[secret.AdoptedAnnotation]; got != test.mark {
				t.Errorf("the mark becomes %q", got)
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
