package syncer

import "time"

// Status is what a Syncer tells about itself.
type Status struct {
	// Secrets is the number of Secrets in each state.
	Secrets map[State]int
	// Ready is true when each Secret has held the values of the volume once since the start.
	Ready bool
	// Success is the last time that a Secret was written, or found right.
	Success time.Time
	// Version is the time when the values of the volume were fetched from the vault.
	Version time.Time
	// ConfigBroken is true if the configuration on disk is not valid; the last valid one is in force.
	ConfigBroken bool
	// Beat is the last time that the loop ran, or had brought a Secret up to date.
	Beat time.Time
}

// Status returns the status of the last run of the loop.
func (s *Syncer) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// publish makes the status of this run of the loop.
func (s *Syncer) publish() {
	status := Status{
		Secrets: map[State]int{}, Ready: s.loaded, Version: s.set.Time, ConfigBroken: s.broken != "", Beat: s.Clock.Now(),
	}
	for _, e := range s.entries {
		status.Secrets[e.state]++
		status.Ready = status.Ready && e.synced
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	status.Success = s.status.Success
	s.status = status
}

// alive is called after each Secret: the first run writes all, which can take minutes.
func (s *Syncer) alive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Beat = s.Clock.Now()
}

func (s *Syncer) succeeded() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Success = s.Clock.Now()
}
