package syncer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/api"
	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/secret"
)

// A Role that is applied together with the pod takes effect some seconds later. The event that was refused meanwhile is created then, with
// its first time; if the right stays missing, the attempts end.
func TestAnEventIsTriedAgain(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		allowed          int // after so many seconds
		least, most, log int
	}{
		"at once": {0, 1, 1, 0},
		"soon":    {10, 3, 8, 0},
		"never":   {1 << 30, 10, 40, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				s := &server{log: &log, eventErr: errors.New("events is forbidden")}
				if test.allowed == 0 {
					s.eventErr = nil
				}
				startWith(t, s, "secrets: [{name: db, data: {key: not-there}}]")
				pass(s, min(test.allowed, 600))
				s.mu.Lock()
				s.eventErr = nil
				s.mu.Unlock()
				pass(s, 600)
				attempts := len(s.emitted)
				if attempts < test.least || attempts > test.most || len(slices.Compact(s.emitted)) != 1 || !strings.HasPrefix(s.emitted[0], "InvalidValue ") {
					t.Errorf("%d attempts, want %d to %d: %q", attempts, test.least, test.most, s.emitted)
				}
				const given = `msg="an event could not be created" secret=db reason=InvalidValue error="events is forbidden"`
				if lines := strings.Count(log.String(), given); lines != test.log {
					t.Errorf("the log has %d lines %q, want %d:\n%s", lines, given, test.log, &log)
				}
			})
		})
	}
}

// What waits while the API server is away is tried when it answers again. Where the right is missing for good, one request at a time is sent
// with a pause before the next, also if many events wait.
func TestManyEventsWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		config := strings.Builder{}
		config.WriteString("secrets:\n- {name: db, data: {key: file}}\n")
		for i := range 120 {
			fmt.Fprintf(&config, "- {name: db%d, data: {key: not-there}}\n", i)
		}
		s := &server{log: &log, err: api.ErrAway, eventErr: errors.New("forbidden")}
		startWith(t, s, config.String())
		pass(s, 50*60)
		attempts := len(s.emitted)
		if attempts > 3 {
			t.Errorf("%d attempts while the API server was away", attempts)
		}
		s.mu.Lock()
		s.err = nil
		s.mu.Unlock()
		for range 5 * 60 {
			before := len(s.emitted)
			pass(s, 1)
			if more := len(s.emitted) - before; more > 1 {
				t.Fatalf("%d attempts in a second", more)
			}
		}
		s.mu.Lock()
		s.eventErr = nil
		s.emitted = nil
		s.mu.Unlock()
		pass(s, 60)
		const given = `msg="an event could not be created"`
		// Twenty did not fit.
		if created, dropped := len(s.emitted), strings.Count(log.String(), given); created+dropped != 120 || created < 90 {
			t.Errorf("%d events were created and %d dropped, of 120", created, dropped)
		}
	})
}

// A Secret that somebody protects does not keep the others from being deleted, and is named.
func TestPruneGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := &server{log: &log, protected: map[string]error{"b": errors.New("denied")}}
		for _, name := range []string{"a", "b", "c"} {
			s.kept = append(s.kept, secret.Metadata{
				Name: name, UID: name, Labels: map[string]string{secret.NameLabel: "web"},
				Annotations: map[string]string{secret.AdoptedAnnotation: "false"}, ManagedFields: applied(),
			})
		}
		startWith(t, s, "prune: true\nsecrets: [{name: db, data: {key: file}}]")
		pass(s, 1)
		if !slices.Equal(s.deleted, []string{"a", "c"}) {
			t.Errorf("deleted: %q\n%s", s.deleted, &log)
		}
		if !strings.Contains(log.String(), `could not be deleted" error="b: denied"`) {
			t.Errorf("the log does not name it:\n%s", &log)
		}
		s.protected = nil
		pass(s, 300)
		if !slices.Equal(s.deleted, []string{"a", "c", "b"}) {
			t.Errorf("deleted: %q", s.deleted)
		}
	})
}

// That the Secrets cannot be watched is logged once, also if nothing else asks the API server.
func TestWatchesFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := &server{log: &log}
		s.watch = func(context.Context, string, func(api.Change)) error { return fmt.Errorf("refused: %w", api.ErrAway) }
		startWith(t, s, "secrets: [{name: db, data: {key: file}}, {name: web, data: {key: file}}]")
		pass(s, 3)
		const line = `msg="the Secrets cannot be watched; that one was deleted or changed is noticed when they can" error="refused: `
		if strings.Contains(log.String(), line) {
			t.Errorf("logged after three seconds:\n%s", &log)
		}
		for range 20 {
			<-time.After(time.Minute)
		}
		if lines := strings.Count(log.String(), line); lines != 1 {
			t.Errorf("the log has %d such lines:\n%s", lines, &log)
		}
	})
}
