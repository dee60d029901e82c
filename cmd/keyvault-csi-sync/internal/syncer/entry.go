package syncer

import (
	"time"

	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/api"
	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/secret"
)

// State is the state of a Secret.
type State string

// The states, each a value of the label of the metric.
const (
	Pending State = "pending" // not looked at yet
	Synced  State = "synced"  // holds the values of the volume
	Invalid State = "invalid" // the volume has no values that the Secret could hold
	Refused State = "refused" // somebody has to decide something, such as adopt: true
	Failed  State = "failed"  // the API server refuses it or is away; it is tried again
)

// States are all states.
func States() []State { return []State{Pending, Synced, Invalid, Refused, Failed} }

// never is the due time of a Secret that needs no look.
var never time.Time

// entry is a Secret of the configuration.
type entry struct {
	wanted secret.Wanted
	valid  bool // wanted could be built

	state  State
	reason string // that was reported last: equal reports are not repeated
	synced bool   // once since the start
	fresh  bool   // wanted has changed since

	uid, version string    // of the Secret as it was seen last
	due          time.Time // of the next look at the API server; zero is never
	retry        backoff

	disturbed backoff   // of what others do to the Secret
	written   time.Time // for the last time
}

// look makes the entry due, not before the pause for a Secret that others keep changing.
func (e *entry) look(now time.Time) {
	e.due = now
	if earliest := e.written.Add(e.disturbed.pause); e.disturbed.pause > shortestPause && earliest.After(now) {
		e.due = earliest
	}
}

// changed reports whether a change is news.
func (e *entry) changed(c api.Change) bool {
	if c.Deleted {
		return c.UID == e.uid || e.uid == ""
	}
	return c.UID == "" || c.UID != e.uid || c.ResourceVersion != e.version
}

// saw records the Secret that is there.
func (e *entry) saw(live *secret.Secret) {
	e.uid, e.version = "", ""
	if live != nil {
		e.uid, e.version = live.Metadata.UID, live.Metadata.ResourceVersion
	}
}
