package fleet

import "time"

// Scenarios are the rows of the table. The time that is simulated is shorter for larger fleets, because a request costs about 50 µs of CPU,
// and 20,000 nodes have a quarter of the objects, because of the memory.
func Scenarios() []Scenario {
	return []Scenario{
		{Name: "1 × 100", Nodes: 1, Objects: 100, Identities: 2, Length: time.Hour, Rotation: 30 * time.Minute, Seed: 1},
		{Name: "100 × 100", Nodes: 100, Objects: 100, Identities: 2, Length: 20 * time.Minute, Rotation: 10 * time.Minute, Seed: 1},
		{Name: "1,000 × 100", Nodes: 1000, Objects: 100, Identities: 2, Length: 20 * time.Minute, Rotation: 10 * time.Minute, Seed: 1},
		{Name: "5,000 × 100", Nodes: 5000, Objects: 100, Identities: 2, Length: 20 * time.Minute, Rotation: 10 * time.Minute, Seed: 1},
		{Name: "20,000 × 25", Nodes: 20000, Objects: 25, Identities: 1, Length: 10 * time.Minute, Rotation: 5 * time.Minute, Seed: 1},
		{Name: "100 × 100, no Retry-After", Nodes: 100, Objects: 100, Identities: 2, Length: 10 * time.Minute, NoRetryAfter: true, Seed: 1},
		{Name: "100 × 100, others use up to 80 %", Nodes: 100, Objects: 100, Identities: 2, Length: time.Hour, Others: .8, Seed: 1},
		{Name: "100 × 100, rolling upgrade", Nodes: 100, Objects: 100, Identities: 2, Length: 20 * time.Minute, Upgrade: 5 * time.Minute, Rollout: 5 * time.Minute, Seed: 1},
		{Name: "100 × 100, a zone down for 5 min", Nodes: 100, Objects: 100, Identities: 2, Length: 20 * time.Minute, Outage: 5 * time.Minute, OutageOf: 5 * time.Minute, Seed: 1},
		{Name: "100 × 100, clocks up to 1 min ahead", Nodes: 100, Objects: 100, Identities: 2, Length: 20 * time.Minute, Skew: time.Minute, Seed: 1},
	}
}
