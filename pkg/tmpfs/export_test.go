package tmpfs

import "errors"

// UseClassic makes a store mount with mount(2), as on a kernel that has nothing newer.
func UseClassic(s *Store) {
	s.mounter = &classic{swap: &swapOption{}, reason: errors.New("asked for by a test")}
}

// UsesClassic says whether New found that the newer calls cannot be used.
func UsesClassic(s *Store) bool {
	_, yes := s.mounter.(*classic)
	return yes
}

// ResolvedBeneath is how the way to a target is judged where openat2(2) is missing.
func (s *Store) ResolvedBeneath(folder string) error { return s.resolvedBeneath(folder) }
