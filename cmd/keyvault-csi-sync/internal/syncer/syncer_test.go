package syncer_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/api"
	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/secret"
	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/syncer"
)

// server is an API server that fails with err. What field managers do is tested with a real one.
type server struct {
	mu      sync.Mutex
	err     error // of Get
	gets    int
	live    map[string]secret.Secret
	writes  int
	meddle  bool // somebody changes each Secret as soon as it was written
	reports chan func(api.Change)
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

func (s *server) Watch(ctx context.Context, _ string, report func(api.Change)) error {
	s.reports <- report
	<-ctx.Done()
	return nil
}

func (*server) Release(_ context.Context, m secret.Secret) (*secret.Secret, error) { return &m, nil }
func (*server) List(context.Context, string) ([]secret.Metadata, error)            { return nil, nil }
func (*server) Delete(context.Context, secret.Metadata) error                      { return nil }
func (*server) Emit(context.Context, api.Event, time.Time) error                   { return nil }

func (s *server) count() (gets, writes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gets, s.writes
}

// start runs a Syncer for one Secret, in a bubble of synctest, whose time is fake.
func start(t *testing.T, s *server) {
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
		Name: "web", Volume: volume, API: s, Log: slog.New(slog.DiscardHandler),
		ReadConfig: func() ([]byte, error) { return []byte("secrets: [{name: db, data: {key: file}}]"), nil },
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { loop.Run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
}

// pass lets the time pass second by second, and returns after which of them the server was asked again.
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
