package driver

import "sync"

// note says what is wrong with a volume: why its set could not be refreshed, or what the last refresh found.
type note struct {
	reason string // of an adverse health status
	text   string // one line
}

// notes are the volumes whose last refresh was not clean. They only inform: no call depends on them, and a restart may lose
// them, for the next republish writes them anew. The zero value is ready.
type notes struct {
	mu       sync.Mutex
	byVolume map[string]note // by CSI volume id, which both publish and unpublish carry
}

// set remembers the failure and says whether it is news.
func (n *notes) set(volumeID string, failure note) (news bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.byVolume == nil {
		n.byVolume = make(map[string]note)
	}
	previous, known := n.byVolume[volumeID]
	n.byVolume[volumeID] = failure
	return !known || previous != failure
}

// drop forgets the volume and says whether there was a failure to forget.
func (n *notes) drop(volumeID string) (had bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, had = n.byVolume[volumeID]
	delete(n.byVolume, volumeID)
	return had
}

// stale counts the volumes whose set is older than what is tolerated.
func (n *notes) stale() (count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, failure := range n.byVolume {
		if failure.reason == reasonStale {
			count++
		}
	}
	return count
}

// get gives the failure of a volume, if its last refresh failed.
func (n *notes) get(volumeID string) (failure note, failed bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	failure, failed = n.byVolume[volumeID]
	return failure, failed
}
