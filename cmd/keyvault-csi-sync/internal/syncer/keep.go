package syncer

import (
	"context"
	"errors"
	"strings"

	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/api"
	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/secret"
)

// attempts bounds how often a Secret that changes meanwhile is read again at once.
const attempts = 3

// keep brings one Secret up to date. Its error is api.ErrAway or nil; others are the Secret's own, and are reported.
func (s *Syncer) keep(ctx context.Context, e *entry) error {
	var err error
	for range attempts {
		if err = s.keepOnce(ctx, e); !errors.Is(err, api.ErrChanged) {
			break
		}
	}
	if err == nil {
		return nil
	}
	e.state = Failed
	if errors.Is(err, api.ErrAway) || ctx.Err() != nil {
		return err // it stays due
	}
	e.due = s.Clock.Now().Add(e.retry.next(longestPause))
	s.report(ctx, e, e.wanted.Name, reasonOf(err), err.Error()+"; the Secret stays as it is")
	return nil
}

func (s *Syncer) keepOnce(ctx context.Context, e *entry) error {
	w := e.wanted
	live, err := s.API.Get(ctx, w.Name)
	if err != nil {
		return err
	}
	if s.Clock.Since(e.written) > calm {
		e.disturbed.reset()
	}
	gone := live == nil && e.uid != ""
	e.saw(live)
	d := w.Decide(live, s.Clock.Now())
	switch d.Action {
	case secret.Refuse:
		e.state, e.due = Refused, never
		s.report(ctx, e, w.Name, d.Reason, d.Text)
		return nil
	case secret.Wait:
		e.state, e.due = Failed, s.Clock.Now().Add(e.retry.next(longestAway))
		s.report(ctx, e, w.Name, d.Reason, d.Text)
		return nil
	}
	if d.Release || d.Action == secret.Apply {
		if e.synced && !e.fresh {
			e.disturbed.next(longestPause)
		}
		e.written = s.Clock.Now()
	}
	if d.Release { // first, or the Secret could be deleted with its owner in between
		if live, err = s.API.Release(ctx, *live); err != nil {
			return err
		}
		s.Log.Info("removed the owners of an adopted Secret, so that it is not deleted with them", "secret", w.Name)
	}
	if d.Action == secret.Apply {
		if live, err = s.apply(ctx, e, live, d); err != nil {
			return err
		}
		s.Log.Info("wrote a Secret", "secret", w.Name, "adopted", d.Adopt, "again", gone, "fetched", w.Version.UTC())
	}
	e.saw(live)
	e.state, e.due, e.synced, e.fresh, e.reason = Synced, never, true, false, ""
	e.retry.reset()
	s.succeeded()
	return nil
}

// apply writes the Secret, also over fields that somebody else has written.
func (s *Syncer) apply(ctx context.Context, e *entry, live *secret.Secret, d secret.Decision) (*secret.Secret, error) {
	m := e.wanted.Manifest(live)
	written, err := s.API.Apply(ctx, m, d.Adopt)
	if conflict, ok := errors.AsType[*api.ConflictError](err); ok {
		if live == nil { // somebody made it just now
			return nil, api.ErrChanged
		}
		s.report(ctx, e, m.Metadata.Name, "Conflict", conflict.Error()+"; it is written again as in the vault")
		written, err = s.API.Apply(ctx, m, true)
	}
	if err == nil && d.Adopt {
		s.emit(ctx, api.Event{Secret: m.Metadata.Name, UID: e.uid, Reason: "Adopted", Text: "keyvault-csi-sync " + s.Name + " keeps this Secret from now on"})
	}
	return written, err
}

// pruneAll deletes what this keyvault-csi-sync made and the configuration does not name any more.
func (s *Syncer) pruneAll(ctx context.Context) error {
	kept, err := s.API.List(ctx, s.Name)
	var refused []string // one that a policy protects must not keep the others
	for _, m := range kept {
		if s.entries[m.Name] != nil || !m.MadeBy(s.Name) || m.DeletionTimestamp != "" {
			continue
		}
		failure := s.API.Delete(ctx, m)
		if errors.Is(failure, api.ErrAway) {
			return failure
		}
		if failure != nil {
			refused = append(refused, m.Name+": "+failure.Error())
			continue
		}
		s.Log.Info("deleted a Secret that the configuration does not name any more", "secret", m.Name)
		s.emit(ctx, api.Event{Secret: m.Name, UID: m.UID, Reason: "Pruned", Text: "the configuration does not name it any more, and says prune: true"})
	}
	switch {
	case errors.Is(err, api.ErrAway):
		return err
	case err != nil:
		refused = []string{err.Error()}
	case len(refused) == 0:
		s.prune = false
		s.pruning.reset()
		return nil
	}
	s.pruneAt = s.Clock.Now().Add(s.pruning.next(longestPause))
	s.Log.Warn("Secrets that the configuration does not name any more could not be deleted", "error", strings.Join(refused, "; "))
	return nil
}

// report logs what is wrong with a Secret, and makes it an event, unless that was the last report about it.
func (s *Syncer) report(ctx context.Context, e *entry, name, reason, text string) {
	if e.reason == reason+text {
		return
	}
	e.reason = reason + text
	s.Log.Warn(text, "secret", name, "reason", reason)
	s.emit(ctx, api.Event{Secret: name, UID: e.uid, Warning: true, Reason: reason, Text: text})
}

func reasonOf(err error) string {
	if refused, ok := errors.AsType[*api.RefusedError](err); ok {
		return refused.Reason
	}
	return "Failed"
}

func isRefused(err error) bool {
	_, ok := errors.AsType[*api.RefusedError](err)
	return ok
}
