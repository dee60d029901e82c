package syncer

import (
	"context"
	"slices"
	"time"

	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/api"
)

const (
	// eventAttempts is how often an event is sent that the API server does not accept. That takes about five minutes, because a Role that
	// was applied together with the pod can take effect seconds after the first request. After so many failures in a row, each further
	// failure drops an event, so that the requests end if the right is never granted.
	eventAttempts = 12
	// Kubernetes keeps events for an hour. An older one, which waited while the API server was away, explains nothing any more.
	eventLifetime = time.Hour
	// mostEvents bounds how many wait. The oldest go first; the log has them.
	mostEvents = 100
)

// events are those that the API server has not taken yet, the oldest first.
type events struct {
	waiting  []event
	failures int // in a row
	retry    backoff
	due      time.Time // of the next attempt
}

type event struct {
	api.Event

	at time.Time
}

// emit creates an event, after those that wait.
func (s *Syncer) emit(ctx context.Context, e api.Event) {
	if len(s.events.waiting) == mostEvents {
		s.dropEvent("more than 100 wait")
	}
	s.events.waiting = append(s.events.waiting, event{e, s.Clock.Now()})
	s.emitWaiting(ctx)
}

// emitWaiting creates the events that wait, if it is time to try that. It ends at the first failure, so that an API server that answers
// slowly holds up the Secrets for one request.
func (s *Syncer) emitWaiting(ctx context.Context) {
	q := &s.events
	for len(q.waiting) > 0 && !q.due.After(s.Clock.Now()) && !s.awayTil.After(s.Clock.Now()) {
		first := q.waiting[0]
		if s.Clock.Since(first.at) > eventLifetime {
			s.dropEvent("it is older than an hour")
			continue
		}
		if err := s.API.Emit(ctx, first.Event, first.at); err != nil {
			q.due = s.Clock.Now().Add(q.retry.next(longestAway))
			if q.failures++; q.failures >= eventAttempts {
				s.dropEvent(err.Error())
			}
			return
		}
		q.waiting = slices.Delete(q.waiting, 0, 1)
		q.failures = 0
		q.retry.reset()
	}
}

// dropEvent gives up the oldest event.
func (s *Syncer) dropEvent(why string) {
	first := s.events.waiting[0]
	s.events.waiting = slices.Delete(s.events.waiting, 0, 1)
	s.Log.Warn("an event could not be created", "secret", first.Secret, "reason", first.Reason, "error", why)
}
