package mounted_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/mounted"
)

var began = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// The attempts of a first mount begin with the first one, until that was too long ago or the volume is mounted.
func TestFirstMounts(t *testing.T) {
	t.Parallel()
	v := mounted.New()
	for i, step := range []struct {
		after, atLeast time.Duration
		change         func()
		want           time.Duration // after which the first attempt was; -1 if this is the first
	}{
		{after: 0, want: -1},
		{after: 9 * time.Minute, want: 0},
		{after: 11 * time.Minute, want: -1},
		{after: 30 * time.Minute, atLeast: 2 * time.Hour, want: 11 * time.Minute},
		{after: 100 * time.Minute, change: func() { v.Tidy(began.Add(100 * time.Minute)) }, want: 11 * time.Minute},
		{after: 132 * time.Minute, change: func() { v.Tidy(began.Add(132 * time.Minute)) }, want: -1},
		{after: 133 * time.Minute, change: func() { v.Replace("a", mounted.Volume{}) }, want: -1},
		{after: 125 * time.Minute, want: 133 * time.Minute}, // the clock was set back
	} {
		if step.change != nil {
			step.change()
		}
		want := began.Add(step.want)
		if step.want < 0 {
			want = time.Time{}
		}
		if got := v.Begin("a", began.Add(step.after), step.atLeast); !got.Equal(want) {
			t.Errorf("step %d: the mount has begun at %v, want %v", i, got, want)
		}
	}
	if got := v.Begin("b", began, 0); !got.IsZero() {
		t.Errorf("another volume has begun at %v", got)
	}
}

// What replaces or removes a volume returns its state, so that what it held can be released once.
func TestReplacedAndRemoved(t *testing.T) {
	t.Parallel()
	v := mounted.New()
	for i, step := range []struct {
		change func() (mounted.Volume, bool)
		want   []string // nil if no volume was known
		newest time.Time
	}{
		{func() (mounted.Volume, bool) { return v.Remove("a") }, nil, time.Time{}},
		{func() (mounted.Volume, bool) {
			return v.Replace("a", mounted.Volume{Vaults: []string{"one"}, Newest: began})
		}, nil, began},
		{func() (mounted.Volume, bool) {
			return v.Replace("a", mounted.Volume{Vaults: []string{"two"}, Newest: began.Add(time.Hour)})
		}, []string{"one"}, began.Add(time.Hour)},
		{func() (mounted.Volume, bool) { return v.Remove("b") }, nil, began.Add(time.Hour)},
		{func() (mounted.Volume, bool) { return v.Remove("a") }, []string{"two"}, time.Time{}},
		{func() (mounted.Volume, bool) { return v.Remove("a") }, nil, time.Time{}},
	} {
		before, known := step.change()
		if diff := cmp.Diff(step.want, before.Vaults); diff != "" || known != (step.want != nil) {
			t.Errorf("step %d: known %t (-want +got):\n%s", i, known, diff)
		}
		if got := v.Newest("a"); !got.Equal(step.newest) {
			t.Errorf("step %d: the newest object is of %v, want %v", i, got, step.newest)
		}
	}
}

// A certificate of several volumes counts once: with its earliest end, and with the gap that any of them has.
func TestCertificates(t *testing.T) {
	t.Parallel()
	v := mounted.New()
	registry := prometheus.NewRegistry()
	if err := registry.Register(v); err != nil {
		t.Fatal(err)
	}
	end := func(name string, days int, gap bool) mounted.Certificate {
		return mounted.Certificate{Vault: "shop", Name: name, NotAfter: began.AddDate(0, 0, days), Gap: gap}
	}
	v.Replace("a", mounted.Volume{Certificates: []mounted.Certificate{end("web", 9, false), end("api", 5, false)}})
	v.Replace("b", mounted.Volume{Certificates: []mounted.Certificate{end("web", 7, true)}})
	check := func(want ...string) {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, family := range families {
			for _, m := range family.GetMetric() {
				words := []string{strings.TrimPrefix(family.GetName(), "keyvault_csi_")}
				for _, label := range m.GetLabel() {
					words = append(words, label.GetValue())
				}
				got = append(got, fmt.Sprintf("%s %.0f", strings.Join(words, " "), m.GetGauge().GetValue()))
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	at := func(days int) int64 { return began.AddDate(0, 0, days).Unix() }
	check(fmt.Sprintf("certificate_expiry_timestamp_seconds api shop %d", at(5)), fmt.Sprintf("certificate_expiry_timestamp_seconds web shop %d", at(7)),
		"certificates 2", "incomplete_chains 1")
	v.Remove("b")
	check(fmt.Sprintf("certificate_expiry_timestamp_seconds api shop %d", at(5)), fmt.Sprintf("certificate_expiry_timestamp_seconds web shop %d", at(9)),
		"certificates 2", "incomplete_chains 0")
	v.Remove("a")
	check("certificates 0", "incomplete_chains 0")
}

// While pods have very many certificates, a volume keeps the 200 that end first.
func TestTooManyCertificates(t *testing.T) {
	t.Parallel()
	v := mounted.New()
	many := make([]mounted.Certificate, 20_000)
	for i := range many {
		many[i] = mounted.Certificate{Vault: "shop", Name: fmt.Sprint(i), NotAfter: began.Add(-time.Duration(i) * time.Hour)}
	}
	v.Replace("a", mounted.Volume{Certificates: many})
	v.Replace("b", mounted.Volume{Certificates: many})
	b, _ := v.Remove("b")
	if len(b.Certificates) != 200 || b.Certificates[0].Name != "19999" {
		t.Errorf("%d certificates are kept, the first is %q", len(b.Certificates), b.Certificates[0].Name)
	}
	a, _ := v.Replace("a", mounted.Volume{})
	if len(a.Certificates) != len(many) {
		t.Errorf("%d certificates are kept of a volume, although there were few", len(a.Certificates))
	}
}
