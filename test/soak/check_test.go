package soak_test

import (
	"fmt"
	"slices"
	"time"
)

// check compares the content of the volume with the history of the vaults. fetched is the time of the set. The caller holds s.mu.
func (s *slot) check(fetched time.Time) error {
	now := time.Now()
	shown, before := make([]int, len(s.objects)), s.shown
	if before == nil { // the first set
		before = slices.Repeat([]int{-1}, len(s.objects))
	}
	ended, disturbed := s.testNode.faultLog.of(s.vaults)
	for i, shownObject := range s.objects {
		vaultHistory := s.testNode.histories[shownObject.vault]
		generation, outdated, err := vaultHistory.find(shownObject.object, shownObject.content)
		if err != nil {
			return err
		}
		shown[i] = generation
		if shownObject.content == absent {
			shown[i] = -1
		}
		if !outdated.IsZero() && outdated.Before(fetched) {
			return fmt.Errorf("%s of %s: the set was fetched %s after this value was replaced", shownObject.object, shownObject.vault, fetched.Sub(outdated))
		}
		if shown[i] >= 0 && shown[i] < before[i] {
			return fmt.Errorf("%s of %s went back from generation %d to %d", shownObject.object, shownObject.vault, before[i], shown[i])
		}
		if before[i] >= 0 && shown[i] > before[i] && !disturbed {
			s.updated(vaultHistory, shownObject.object, before[i], ended, now)
		}
		late := now.Sub(latest(outdated, ended, s.since))
		if !outdated.IsZero() && s.phase == published && !disturbed && late > s.testNode.form.bound {
			return fmt.Errorf("lost update: %s of %s was replaced %s ago, the last fault ended %s ago, the volume was published %s ago, and it still shows generation %d",
				shownObject.object, shownObject.vault, now.Sub(outdated), now.Sub(ended), now.Sub(s.since), generation)
		}
	}
	s.shown = shown
	return nil
}

// updated records how long an update took.
func (s *slot) updated(b *vaultHistory, object string, before int, ended, now time.Time) {
	b.mu.Lock()
	outdated := b.objects[object].states[before+1].from
	b.mu.Unlock()
	u := update{at: now, after: ended.After(outdated), delay: now.Sub(latest(outdated, ended, s.since))}
	s.testNode.mu.Lock()
	defer s.testNode.mu.Unlock()
	s.testNode.updates = append(s.testNode.updates, u)
}

func latest(times ...time.Time) (last time.Time) {
	for _, t := range times {
		if t.After(last) {
			last = t
		}
	}
	return last
}
