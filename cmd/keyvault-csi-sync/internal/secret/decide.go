package secret

import (
	"fmt"
	"time"
)

// Action is what has to be done about a Secret.
type Action int

// The actions.
const (
	Nothing Action = iota // it holds what it must
	Apply                 // it must be written
	Wait                  // it cannot be written now; try again later
	Refuse                // somebody has to decide something; a change of the Secret or of the configuration is worth a new look
)

// Decision is an action with its reason.
type Decision struct {
	Action Action
	// Reason is one word for events and Text one line, both for Wait and Refuse.
	Reason, Text string
	// Adopt is set for the first Apply to a Secret that somebody else made.
	Adopt bool
	// Release is set if the Secret has owners that are to be removed, because it would be deleted with the last of them.
	Release bool
}

// furthest is how far in the future a version may lie. A later one was written where a clock is wrong, and would never be reached.
const furthest = 5 * time.Minute

// Decide compares the wanted Secret with the one that is there, or nil.
func (w Wanted) Decide(live *Secret, now time.Time) Decision {
	if live == nil {
		return Decision{Action: Apply}
	}
	mine, same := w.mine(*live), w.holds(live.Data) && !w.drops(*live)
	switch {
	case live.Metadata.DeletionTimestamp != "":
		return wait("Deleted", "it is being deleted, and something holds it with a finalizer; it is made again when it is gone")
	case !mine && !w.Adopt:
		return refuse("NotOwned", "there is a Secret of this name that %s; write adopt: true in its entry to take it over, or delete it", keptBy(*live))
	case live.Type != w.Type:
		return refuse("WrongType", "it is of type %s, and Kubernetes never changes that; delete it, and it is made again as %s", live.Type, w.Type)
	case live.Immutable && !same:
		return refuse("Immutable", "it is immutable and holds other keys or values; delete it, and it is made again")
	case mine && !same && w.older(*live, now):
		return wait("NewerVersion", "it holds values that were fetched after those in this volume; they stay until the volume is as new")
	}
	d := Decision{Adopt: !mine, Release: w.adopted(*live) && len(live.Metadata.OwnerReferences) > 0}
	if !same || !mine || !w.marked(*live) {
		d.Action = Apply
	}
	return d
}

// older reports whether w is older than the values in the Secret, which another pod has written while the pod moves to another
// node. Otherwise the two pods would replace each other's values forever.
func (w Wanted) older(live Secret, now time.Time) bool {
	written, err := time.Parse(time.RFC3339Nano, live.Metadata.Annotations[VersionAnnotation])
	return err == nil && written.After(w.Version) && written.Before(now.Add(furthest))
}

// marked reports whether the Secret has all labels and annotations.
func (w Wanted) marked(live Secret) bool {
	m := w.Manifest(&live).Metadata
	delete(m.Annotations, VersionAnnotation) // it alone is no reason to write
	return contains(live.Metadata.Labels, m.Labels) && contains(live.Metadata.Annotations, m.Annotations)
}

func contains(all, some map[string]string) bool {
	for key, value := range some {
		if there, ok := all[key]; !ok || there != value {
			return false
		}
	}
	return true
}

// keptBy says who made the Secret, as far as it shows it.
func keptBy(live Secret) string {
	if name := live.Metadata.Labels[NameLabel]; name != "" {
		return fmt.Sprintf("the keyvault-csi-sync %q keeps", name)
	}
	return "somebody else made"
}

func wait(reason, text string) Decision {
	return Decision{Action: Wait, Reason: reason, Text: text}
}

func refuse(reason, format string, args ...any) Decision {
	return Decision{Action: Refuse, Reason: reason, Text: fmt.Sprintf(format, args...)}
}
