package soak_test

import (
	"fmt"
	"slices"
	"time"
)

// slack is how much later a value may become known here as outdated than the vault had the newer one.
const slack = time.Second

// judge holds what the volume shows against what the vaults have said. fetched is the age that the set claims. The
// caller holds s.mu.
func (s *slot) judge(fetched time.Time) error {
	now := time.Now()
	shown, before := make([]int, len(s.sights)), s.shown
	if before == nil { // the first look: nothing is newer than what was there
		before = slices.Repeat([]int{-1}, len(s.sights))
	}
	ended, disturbed := s.site.trouble.of(s.vaults)
	for i, sight := range s.sights {
		book := s.site.books[sight.vault]
		generation, outdated, err := book.find(sight.object, sight.content)
		if err != nil {
			return err
		}
		shown[i] = generation
		if sight.content == absent {
			shown[i] = -1
		}
		if !outdated.IsZero() && outdated.Add(slack).Before(fetched) {
			return fmt.Errorf("%s of %s: the set says that it was fetched %s after this value was replaced", sight.object, sight.vault, fetched.Sub(outdated))
		}
		if shown[i] >= 0 && shown[i] < before[i] {
			return fmt.Errorf("%s of %s went back from generation %d to %d", sight.object, sight.vault, before[i], shown[i])
		}
		if before[i] >= 0 && shown[i] > before[i] && !disturbed {
			s.updated(book, sight.object, before[i], ended, now)
		}
		late := now.Sub(latest(outdated, ended, s.since))
		if !outdated.IsZero() && s.phase == there && !disturbed && late > s.site.form.bound {
			return fmt.Errorf("lost update: %s of %s was replaced %s ago, the last fault ended %s ago, the volume was published %s ago, and it still shows generation %d",
				sight.object, sight.vault, now.Sub(outdated), now.Sub(ended), now.Sub(s.since), generation)
		}
	}
	s.shown = shown
	return nil
}

// updated notes how long an update took.
func (s *slot) updated(b *book, object string, before int, ended, now time.Time) {
	b.mu.Lock()
	outdated := b.objects[object].states[before+1].from
	b.mu.Unlock()
	u := update{at: now, after: ended.After(outdated), delay: now.Sub(latest(outdated, ended, s.since))}
	s.site.mu.Lock()
	defer s.site.mu.Unlock()
	s.site.updates = append(s.site.updates, u)
}

func latest(times ...time.Time) (last time.Time) {
	for _, t := range times {
		if t.After(last) {
			last = t
		}
	}
	return last
}
