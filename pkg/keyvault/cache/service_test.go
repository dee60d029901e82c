package cache

import (
	"sync"
	"time"
)

// service is a service that is closed for a time.
type service struct {
	mu      sync.Mutex
	until   time.Time
	reason  error
	changed chan struct{}
	slow    error // why requests still wait
}

func newService() *service { return &service{changed: make(chan struct{})} }

func (s *service) close(d time.Duration, reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until, s.reason = time.Now().Add(d), reason
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *service) State() (time.Duration, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if wait := time.Until(s.until); wait > 0 {
		return wait, s.changed, s.reason
	}
	return 0, s.changed, nil
}

func (s *service) Throttled() error { return s.slow }
