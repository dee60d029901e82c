package syncer_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/api"
	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/secret"
	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/syncer"
)

// server is an API server that fails with err. What field managers do is tested with a real one.
type server struct {
	mu        sync.Mutex
	err       error // of Get
	gets      int
	eventErr  error    // of Emit
	emitted   []string // each attempt
	live      map[string]secret.Secret
	writes    int
	reads     atomic.Int64 // of the configuration
	meddle    bool         // somebody changes each Secret as soon as it was written
	log       io.Writer    // of the Syncer; none by default
	reports   chan func(api.Change)
	kept      []secret.Metadata // what List returns
	protected map[string]error  // of Delete, by name
	deleted   []string
	watch     func(ctx context.Context, since string, report func(api.Change)) error // instead of one that never ends
}

func (s *server) Get(_ context.Context, name string) (*secret.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets++
	if s.err != nil {
		return nil, s.err
	}
	live, ok := s.live[name]
	if !ok {
		return nil, nil //nolint:nilnil // no Secret is an answer
	}
	return &live, nil
}

func (s *server) Apply(_ context.Context, m secret.Secret, _ bool) (*secret.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	m.Metadata.UID, m.Metadata.ResourceVersion = "uid", fmt.Sprint(s.writes)
	m.Metadata.ManagedFields = applied()
	s.live[m.Metadata.Name] = m
	if s.meddle {
		changed := m
		changed.Data = secret.Values{"key": []byte("of others")}
		changed.Metadata.ResourceVersion += "-changed"
		s.live[m.Metadata.Name] = changed
		go func() {
			report := <-s.reports // of the watch, which may begin later
			report(api.Change{Name: m.Metadata.Name, UID: "uid", ResourceVersion: changed.Metadata.ResourceVersion})
			s.reports <- report
		}()
	}
	return &m, nil
}

func (s *server) Watch(ctx context.Context, _, since string, report func(api.Change)) error {
	if s.watch != nil {
		return s.watch(ctx, since, report)
	}
	select {
	case s.reports <- report:
		<-ctx.Done()
	case <-ctx.Done():
	}
	return nil
}

func (*server) Release(_ context.Context, m secret.Secret) (*secret.Secret, error) { return &m, nil }

func (s *server) List(context.Context, string) ([]secret.Metadata, error) {
	return slices.Clone(s.kept), nil
}

func (s *server) Delete(_ context.Context, m secret.Metadata) error {
	if err := s.protected[m.Name]; err != nil {
		return err
	}
	s.deleted = append(s.deleted, m.Name)
	s.kept = slices.DeleteFunc(s.kept, func(k secret.Metadata) bool { return k.Name == m.Name })
	return nil
}

func (s *server) Emit(_ context.Context, e api.Event, at time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.emitted = append(s.emitted, fmt.Sprint(e.Reason, " ", at.UnixNano()))
	return s.eventErr
}

func (s *server) count() (gets, writes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gets, s.writes
}

// applied are the managed fields of a Secret that the Syncer has written.
func applied() []secret.ManagedField {
	return []secret.ManagedField{{Manager: secret.FieldManager, Operation: "Apply", FieldsV1: []byte(`{"f:data": {"f:key": {}}}`)}}
}

// start runs a Syncer for one Secret, in a bubble of synctest, whose time is fake.
func start(t *testing.T, s *server) *syncer.Syncer {
	t.Helper()
	return startWith(t, s, "secrets: [{name: db, data: {key: file}}]")
}

func startWith(t *testing.T, s *server, config string) *syncer.Syncer {
	t.Helper()
	return startOn(t, s, s, config)
}

// startOn runs a Syncer at an API that is the server, or one around it.
func startOn(t *testing.T, s *server, at syncer.API, config string) *syncer.Syncer {
	t.Helper()
	volume := t.TempDir()
	if err := os.Mkdir(filepath.Join(volume, "..set"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(volume, "..set", "file"), []byte("value"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("..set", filepath.Join(volume, "..data")); err != nil {
		t.Fatal(err)
	}
	s.live, s.reports = map[string]secret.Secret{}, make(chan func(api.Change), 1)
	loop := syncer.New(syncer.Options{
		Name: "web", Volume: volume, API: at, Log: slog.New(slog.NewTextHandler(cmp.Or[io.Writer](s.log, io.Discard), nil)),
		ReadConfig: func() ([]byte, error) { s.reads.Add(1); return []byte(config), nil },
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { loop.Run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	return loop
}

// pass lets the time pass second by second, and returns the seconds after which the server was asked again.
func pass(s *server, seconds int) (asked []int) {
	synctest.Wait()
	before, _ := s.count()
	for i := range seconds {
		<-time.After(time.Second)
		synctest.Wait()
		if now, _ := s.count(); now > before {
			asked, before = append(asked, i+1), now
		}
	}
	return asked
}

// While the API server is away the pauses double up to 30 s, with jitter. When it answers, the Secret is written.
func TestPausesWhileAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{err: api.ErrAway}
		start(t, s)
		asked := pass(s, 300)
		if len(asked) < 8 || len(asked) > 30 {
			t.Errorf("in five minutes the API server was asked after %v seconds", asked)
		}
		for i := 1; i < len(asked); i++ {
			if pause := asked[i] - asked[i-1]; pause > 46 {
				t.Errorf("the API server was not asked for %d seconds", pause)
			}
		}
		s.mu.Lock()
		s.err = nil
		s.mu.Unlock()
		pass(s, 60)
		if _, writes := s.count(); writes != 1 {
			t.Errorf("the Secret was written %d times", writes)
		}
		if asked := pass(s, 3600); len(asked) != 0 {
			t.Errorf("at rest the API server was asked after %v seconds", asked)
		}
	})
}

// A Secret that somebody else keeps changing is written ever more rarely.
func TestPausesBetweenTwoThatFight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{meddle: true}
		start(t, s)
		pass(s, 1200)
		if _, writes := s.count(); writes < 5 || writes > 20 {
			t.Errorf("in twenty minutes the Secret was written %d times", writes)
		}
	})
}

// A watch ends after some time. The next goes on where it ended, without another request. If the API server has forgotten that, the Secret is
// read once.
func TestWatchGoesOn(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		expired int // the watch that the API server refuses
		since   []string
		gets    int
	}{
		"bookmark": {expired: -1, since: []string{"", "mark-0", "mark-1", "mark-2"}},
		"expired":  {expired: 2, since: []string{"", "mark-0", "mark-1", ""}, gets: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var since []string
				s := &server{}
				s.watch = func(ctx context.Context, from string, report func(api.Change)) error {
					number := len(since)
					since = append(since, from)
					if number == test.expired {
						return api.ErrExpired
					}
					if from == "" {
						report(api.Change{Name: "db"})
					}
					report(api.Change{Name: "db", ResourceVersion: fmt.Sprintf("mark-%d", number), Bookmark: true})
					select {
					case <-ctx.Done():
					case <-time.After(30 * time.Minute):
					}
					return nil
				}
				start(t, s)
				pass(s, 60)
				before, _ := s.count()
				pass(s, 100*60)
				if after, _ := s.count(); after-before != test.gets {
					t.Errorf("the Secret was read %d times at rest, want %d", after-before, test.gets)
				}
				if got := since[:min(len(since), 4)]; !slices.Equal(got, test.since) {
					t.Errorf("the watches began at %q, want %q", got, test.since)
				}
			})
		})
	}
}

// The files and the configuration are read again at intervals, and not for each change at the API server.
func TestReadsTheConfigurationOnTheBeat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		s.watch = func(ctx context.Context, _ string, report func(api.Change)) error {
			for i := 0; ctx.Err() == nil; i++ {
				report(api.Change{Name: "db", UID: "uid", ResourceVersion: fmt.Sprint(i)})
				<-time.After(time.Second)
			}
			return nil
		}
		start(t, s)
		pass(s, 300)
		if reads := s.reads.Load(); reads < 9 || reads > 12 {
			t.Errorf("in five minutes the configuration was read %d times", reads)
		}
	})
}

// An empty configuration is valid: it names no Secret. It is read once.
func TestEmptyConfiguration(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := &server{log: &log}
		loop := startWith(t, s, "")
		pass(s, 300)
		if !loop.Status().Ready {
			t.Error("it is not ready")
		}
		if lines := strings.Count(log.String(), "read the configuration"); lines != 1 {
			t.Errorf("the configuration was read %d times:\n%s", lines, &log)
		}
	})
}
