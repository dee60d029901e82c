package tmpfs

import (
	"time"
)

// record is what this process knows of a volume. It saves a look at the mount table at each call and at the mark of the set, and knows
// the files that cannot be read. No call needs it: a new process finds out again.
type record struct {
	device  uint64
	current string    // the set
	fetched time.Time // its mtime

	locked   bool            // the file system is read-only, as the kernel has confirmed
	verified bool            // and was when the set was last compared, or written
	digest   fingerprint     // of the set; the zero value if this process has not compared it yet
	sealed   map[string]seal // of the files that this process may not read
}

// recordOf gives what is known of the volume at p; known is false if that is nothing, or speaks of another volume. touched says that
// the volume is no longer as this process has left it. (A set that was made to look older is only due sooner.)
func (s *Store) recordOf(p *place) (r record, known, touched bool) {
	value, ok := s.records.Load(p.path)
	if !ok {
		return record{}, false, false
	}
	r = value.(record) //nolint:forcetypeassert // nothing else is stored
	if r.device != p.device {
		return record{}, false, false
	}
	return r, true, r.current != p.current || p.fetched.After(r.fetched)
}

// remember stores r as what is known of the volume at p.
func (s *Store) remember(p *place, r record) {
	r.device, r.current, r.fetched = p.device, p.current, p.fetched
	s.records.Store(p.path, r)
}
