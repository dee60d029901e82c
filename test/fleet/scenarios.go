package fleet

import (
	"fmt"
	"strconv"
	"time"
)

// Scenarios are the rows of the table. Each is as long as its first mounts and two rounds of refreshes need. 20,000 nodes have a quarter of the
// objects, because of the memory of the simulation.
func Scenarios() []Scenario {
	hundred := Scenario{Nodes: 100, Objects: 100, Identities: 2, Length: 20 * time.Minute, Seed: 1}
	with := func(name string, change func(*Scenario)) Scenario {
		s := hundred
		change(&s)
		s.Name = number(s.Nodes) + " × " + number(s.Objects) + name
		return s
	}
	return []Scenario{
		with("", func(s *Scenario) { s.Nodes, s.Length, s.Rotation = 1, time.Hour, 30*time.Minute }),
		with("", func(s *Scenario) { s.Rotation = 10 * time.Minute }),
		with("", func(s *Scenario) { s.Nodes, s.Length, s.Rotation = 1000, 30*time.Minute, 15*time.Minute }),
		with("", func(s *Scenario) { s.Nodes, s.Length, s.Rotation = 5000, 66*time.Minute, 40*time.Minute }),
		with("", func(s *Scenario) {
			s.Nodes, s.Objects, s.Identities, s.Length, s.Rotation = 20000, 25, 1, 66*time.Minute, 40*time.Minute
		}),
		with(", a tenth of 5,000 × 100", func(s *Scenario) {
			s.Nodes, s.Limit, s.Length, s.Rotation = 500, Limit/10, 66*time.Minute, 40*time.Minute
		}),
		with(", a twentieth of 20,000 × 25", func(s *Scenario) {
			s.Nodes, s.Objects, s.Identities, s.Limit, s.Length, s.Rotation = 1000, 25, 1, Limit/20, 66*time.Minute, 40*time.Minute
		}),
		with(", no Retry-After", func(s *Scenario) { s.NoRetryAfter = true }),
		with(", no Retry-After", func(s *Scenario) { s.Nodes, s.NoRetryAfter, s.Length = 1000, true, 30*time.Minute }),
		with(", others use up to 80 %", func(s *Scenario) { s.Others, s.Length = .8, time.Hour }),
		with(", others use up to 80 %", func(s *Scenario) { s.Nodes, s.Others, s.Length = 500, .8, time.Hour }),
		with(", half of a vault is left of the subscription", func(s *Scenario) {
			s.Nodes, s.Subscription, s.Length = 500, SubscriptionLimit-Limit/2, 30*time.Minute
		}),
		with(", started over 5 min", func(s *Scenario) { s.Nodes, s.Over, s.Length = 1000, 5*time.Minute, 30*time.Minute }),
		with(", rolling upgrade", func(s *Scenario) { s.Upgrade, s.Rollout = 5*time.Minute, 5*time.Minute }),
		with(", rolling upgrade", func(s *Scenario) {
			s.Nodes, s.Upgrade, s.Rollout, s.Length = 1000, 15*time.Minute, 10*time.Minute, 40*time.Minute
		}),
		with(", a zone down for 5 min", func(s *Scenario) { s.Outage, s.OutageOf = 5*time.Minute, 5*time.Minute }),
		with(", a zone down for 5 min", func(s *Scenario) {
			s.Nodes, s.Outage, s.OutageOf, s.Length = 1000, 15*time.Minute, 5*time.Minute, 40*time.Minute
		}),
		with(", clocks up to 1 min ahead", func(s *Scenario) { s.Skew = time.Minute }),
	}
}

// number writes a number with a comma for each thousand.
func number(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return fmt.Sprintf("%s,%03d", number(n/1000), n%1000)
}
