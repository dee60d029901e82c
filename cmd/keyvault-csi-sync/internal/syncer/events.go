package syncer

import (
	"context"
	"slices"
	"time"

	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/api"
)

const (
	// An event that the API server does not take is tried again for so long: a Role that was applied together with the pod can take effect
	// seconds after its first request. Where the right is missing for good, a request every few seconds must end.
	eventLifetime = 5 * time.Minute
	// mostEvents bounds how many wait. The oldest go first; the log has them.
	mostEvents = 100
)

// events are those that the API server has not taken yet, the oldest first.
type events struct {
	waiting []event
	retry   backoff
	due     time.Time // of the next attempt
}

type event struct {
	api.Event

	at time.Time
}

// emit creates an event, after those that wait.
func (s *Syncer) emit(ctx context.Context, e api.Event) {
	q := &s.events
	if len(q.waiting) == mostEvents {
		q.waiting = slices.Delete(q.waiting, 0, 1)
	}
	q.waiting = append(q.waiting, event{e, s.Clock.Now()})
	s.emitWaiting(ctx)
}

// emitWaiting creates the events that wait, if it is time to try that. Without an event there is still the log.
func (s *Syncer) emitWaiting(ctx context.Context) {
	q := &s.events
	for len(q.waiting) > 0 && !q.due.After(s.Clock.Now()) {
		first := q.waiting[0]
		err := s.API.Emit(ctx, first.Event, first.at)
		if err != nil && s.Clock.Since(first.at) < eventLifetime {
			q.due = s.Clock.Now().Add(q.retry.next(longestAway))
			return
		}
		q.waiting = slices.Delete(q.waiting, 0, 1)
		if err != nil {
			s.Log.Warn("an event could not be created", "secret", first.Secret, "reason", first.Reason, "error", err.Error())
			continue
		}
		q.retry.reset()
	}
}
