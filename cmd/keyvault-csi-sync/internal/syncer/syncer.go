// Package syncer keeps the Secrets of the configuration as the files of the volume are.
//
// One goroutine does all the work, one request after the other: a change of the files, of the configuration or of a Secret, or the end
// of a pause after a failure, starts it. Without any of them no request is sent. It knows the API server only as the interface API.
package syncer

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/api"
	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/config"
	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/fileset"
	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/secret"
)

// API is the API server.
type API interface {
	Get(ctx context.Context, name string) (*secret.Secret, error)
	Apply(ctx context.Context, s secret.Secret, force bool) (*secret.Secret, error)
	Release(ctx context.Context, s secret.Secret) (*secret.Secret, error)
	List(ctx context.Context, owner string) ([]secret.Metadata, error)
	Delete(ctx context.Context, m secret.Metadata) error
	Watch(ctx context.Context, name, since string, report func(api.Change)) error
	Emit(ctx context.Context, e api.Event, now time.Time) error
}

// Options are the parts of a Syncer.
type Options struct {
	// Name is the name of this keyvault-csi-sync; it marks the Secrets that it keeps.
	Name string
	// Volume is the folder of the volume with the files.
	Volume string
	// ReadConfig reads the configuration.
	ReadConfig func() ([]byte, error)
	// Changed has an element when the files or the configuration may have changed.
	Changed <-chan struct{}
	API     API
	Log     *slog.Logger
	// Clock is the real clock by default.
	Clock clock.Clock
}

// Syncer keeps Secrets.
type Syncer struct {
	Options

	config  config.Config
	loaded  bool   // a configuration has been loaded
	text    string // of the configuration
	broken  string // the error of the configuration that was reported last
	missing string // the error of the volume that was reported last
	set     fileset.Set
	entries map[string]*entry
	first   int       // with which Secret of the configuration the next work begins
	loadAt  time.Time // when the files and the configuration are looked at again
	prune   bool      // still to be done
	pruning backoff
	pruneAt time.Time
	away    backoff
	awayTil time.Time
	awayWhy string // the error that was reported last
	events  events

	changes chan api.Change
	watches map[string]context.CancelFunc

	mu       sync.Mutex
	status   Status
	watchWhy string // the error of the watches that was reported last
}

// limit bounds the files of all Secrets together, so that three copies of them fit into the memory limit of the chart. A volume of the
// driver has at most 1 MiB by default.
const limit = 16 << 20

// beat is how often the loop looks at the files and the configuration even if no change was reported: inotify can lose one. It costs no
// request.
const beat = 30 * time.Second

// New returns a Syncer.
func New(o Options) *Syncer {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return &Syncer{
		Options: o, entries: map[string]*entry{}, watches: map[string]context.CancelFunc{},
		changes: make(chan api.Change), status: Status{Beat: o.Clock.Now()},
	}
}

// Run keeps the Secrets until ctx ends.
func (s *Syncer) Run(ctx context.Context) {
	var watches sync.WaitGroup
	defer watches.Wait()
	for {
		// Not after each change of a Secret: a hundred of them would read the files a hundred times for each rotation.
		if !s.loadAt.After(s.Clock.Now()) {
			if s.load(ctx) {
				s.startWatches(ctx, &watches)
			}
			s.loadAt = s.Clock.Now().Add(beat)
		}
		s.work(ctx)
		s.publish()
		timer := s.Clock.NewTimer(s.pause())
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C():
		case <-s.Changed:
			s.loadAt = s.Clock.Now()
		case c := <-s.changes:
			s.note(c)
		}
		timer.Stop()
	}
}

// note makes the Secret of a change due.
func (s *Syncer) note(c api.Change) {
	if e := s.entries[c.Name]; e != nil && e.changed(c) {
		e.look(s.Clock.Now())
	}
}

// pause returns the time until something is due.
func (s *Syncer) pause() time.Duration {
	now := s.Clock.Now()
	next := s.loadAt
	for _, e := range s.entries {
		if e.valid && !e.due.IsZero() && e.due.Before(next) {
			next = e.due
		}
	}
	if s.prune && s.pruneAt.Before(next) {
		next = s.pruneAt
	}
	if len(s.events.waiting) > 0 && s.events.due.Before(next) {
		next = s.events.due
	}
	if s.awayTil.After(next) {
		next = s.awayTil
	}
	return max(next.Sub(now), 0)
}

// work does what is due, unless the API server is away.
func (s *Syncer) work(ctx context.Context) {
	if s.Clock.Now().Before(s.awayTil) {
		return
	}
	first, count := s.first, len(s.config.Secrets)
	for i := range count {
		at := (first + i) % count
		e := s.entries[s.config.Secrets[at].Name]
		if !e.valid || e.due.IsZero() || e.due.After(s.Clock.Now()) {
			continue
		}
		if err := s.keep(ctx, e); s.isAway(ctx, err) {
			s.first = at + 1 // the API server may be away for this one only, such as one that it cannot decrypt
			return
		}
		s.alive()
	}
	if s.prune && !s.pruneAt.After(s.Clock.Now()) {
		if s.isAway(ctx, s.pruneAll(ctx)) {
			return
		}
	}
	s.emitWaiting(ctx)
	if s.away.pause > 0 {
		s.Log.Info("the API server answers again")
		s.away.reset()
		s.awayWhy = ""
	}
}

// isAway reports whether the API server is away. Then all that is due waits.
func (s *Syncer) isAway(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return true
	}
	if !errors.Is(err, api.ErrAway) {
		return false
	}
	s.awayTil = s.Clock.Now().Add(max(s.away.next(longestAway), api.RetryAfter(err)))
	if s.awayWhy != err.Error() {
		s.awayWhy = err.Error()
		s.Log.Warn("the API server is away; the Secrets stay as they are, and are written when it answers", "error", err.Error())
	}
	return true
}
