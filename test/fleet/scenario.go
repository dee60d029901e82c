package fleet

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
)

// Scenario is a fleet and what happens to it. It begins with the mounts of all volumes.
type Scenario struct {
	Name                       string
	Nodes, Objects, Identities int // Objects and Identities are of each node
	Length                     time.Duration
	Seed                       uint64

	NoRetryAfter bool
	Others       float64       // see [Vault]
	Limit        int           // the same
	Subscription int           // the same
	Over         time.Duration // the nodes start at random in this time; 0 means within a second

	Upgrade  time.Duration // when the driver is replaced on one node after another, for Rollout; 0 means never
	Rollout  time.Duration
	Outage   time.Duration // when a third of the nodes is cut off, for OutageOf; 0 means never
	OutageOf time.Duration
	Skew     time.Duration // the clocks of the nodes are up to this much ahead when they judge the age of a set
	Rotation time.Duration // when the first object of each volume changes; 0 means never
}

func (s Scenario) vault(began time.Time) *Vault {
	return &Vault{Began: began, RetryAfter: !s.NoRetryAfter, Others: s.Others, Limit: s.Limit, Subscription: s.Subscription}
}

// down reports whether a node is cut off at a time after the start. Every third node is in the zone that fails.
func (s Scenario) down(node int, at time.Duration) bool {
	return s.Outage > 0 && node%3 == 0 && at >= s.Outage && at < s.Outage+s.OutageOf
}

// Run simulates the scenario. It must run in a bubble of testing/synctest, because it takes Length.
func (s Scenario) Run() (*Report, error) {
	cloud, err := azure.CloudByName("AzurePublicCloud", "", "")
	if err != nil {
		return nil, err
	}
	began := time.Now()
	vault := s.vault(began)
	report := &Report{Name: s.Name, Nodes: s.Nodes, Objects: s.Objects, Length: s.Length, Missing: s.Nodes * s.Identities}
	all := &record{Report: report}
	if s.Rotation > 0 {
		all.changed, report.Waiting = began.Add(s.Rotation), s.Nodes*s.Identities
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.Length)
	defer cancel()
	var group sync.WaitGroup
	nodes, volumes := make([]*node, s.Nodes), requests(s.Objects, s.Identities)
	for i := range nodes {
		random := func(stream int) *rand.Rand { return rand.New(rand.NewPCG(s.Seed, uint64(i<<8+stream))) } //nolint:gosec // G404, G115: a simulation
		n := &node{vault: vault, record: all, random: random(0), down: func() bool { return s.down(i, time.Since(began)) }}
		if err := n.upgrade(cloud); err != nil {
			return nil, err
		}
		nodes[i] = n
		own := random(1)
		start, skew := rand64(own, max(s.Over, time.Second)), rand64(own, s.Skew)
		for k, request := range volumes {
			v := &Volume{fetcher: n.fetcher, request: request, random: random(2 + k), record: all}
			group.Go(func() { v.run(ctx, start, skew) })
		}
		if s.Upgrade > 0 {
			at := s.Upgrade + rand64(own, s.Rollout)
			group.Go(func() {
				if sleep(ctx, at) {
					failed := n.upgrade(cloud)
					all.mu.Lock()
					defer all.mu.Unlock()
					err = errors.Join(err, failed)
				}
			})
		}
	}
	group.Wait()
	report.First, report.Counts = vault.Counts(0, Settle), vault.Counts(Settle, s.Length)
	for _, n := range nodes {
		report.PerNode = append(report.PerNode, float64(n.good.Load()))
	}
	return report, err
}
