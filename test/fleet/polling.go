package fleet

import (
	"container/heap"
	"math/rand/v2"
	"time"
)

// The retries of the Azure SDK for Go, which the polling driver uses as they are: three, after 0.8 s, 2.4 s and 5.6 s, or Retry-After.
const (
	sdkRetries = 3
	sdkDelay   = 800 * time.Millisecond
)

// Poll simulates the same fleet with a driver that polls: each volume reads its objects one after another every [Interval], and shares
// nothing. A failed object fails the volume, which begins anew after the kubelet's pause, or at the next poll. The same seed gives the same
// report.
func (s Scenario) Poll() *Report {
	began := time.Unix(0, 0)
	vault := s.vault(began)
	r := &Report{Name: s.Name + ", polling", Nodes: s.Nodes, Objects: s.Objects, Length: s.Length, PerNode: make([]float64, s.Nodes)}
	random := rand.New(rand.NewPCG(s.Seed, 0)) //nolint:gosec // G404: a simulation
	var queue polls
	for i := range s.Nodes {
		start := rand64(random, max(s.Over, time.Second))
		upgrade := s.Length
		if s.Upgrade > 0 {
			upgrade = s.Upgrade + rand64(random, s.Rollout)
		}
		for range s.Identities {
			queue = append(queue, &poll{node: i, at: start, asked: start, wait: firstRetry, upgrade: upgrade})
		}
	}
	heap.Init(&queue)
	for queue.Len() > 0 && queue[0].at < s.Length {
		p := queue[0]
		if p.at >= p.upgrade { // it holds no values, so only the poll under way is lost
			p.read, p.retried, p.upgrade = 0, 0, s.Length
		}
		ok, after := false, time.Duration(0)
		if !s.down(p.node, p.at) {
			ok, after = vault.Take(began.Add(p.at))
		}
		p.step(s, r, ok, after, random)
		heap.Fix(&queue, 0)
	}
	for _, p := range queue {
		if p.held == 0 {
			r.Missing++
			continue
		}
		r.Ages = append(r.Ages, s.Length-p.held)
		if s.Rotation > 0 && p.held < s.Rotation {
			r.Waiting++
		}
	}
	r.First, r.Counts = vault.Counts(0, Settle), vault.Counts(Settle, s.Length)
	return r
}

// poll is a volume of a polling driver. Its times count from the beginning of the simulation.
type poll struct {
	node, read, retried int
	at, asked, wait     time.Duration // of the next request; of the first call; the next pause of the kubelet
	upgrade             time.Duration // when the driver of its node is replaced
	began, held         time.Duration // of the poll under way; of the poll that the files are from, 0 if there are none
}

func (p *poll) step(s Scenario, r *Report, ok bool, after time.Duration, random *rand.Rand) {
	if p.read == 0 && p.retried == 0 {
		p.began = p.at
	}
	switch {
	case ok:
		if p.at >= Settle {
			r.PerNode[p.node]++
		}
		p.retried = 0
		p.at += leastTrip + rand64(random, moreTrip)
		if p.read++; p.read < s.Objects/s.Identities {
			return
		}
		if p.held == 0 {
			r.Mounts = append(r.Mounts, p.at-p.asked)
		} else {
			r.Ages = append(r.Ages, p.at-p.held)
		}
		if s.Rotation > 0 && p.held < s.Rotation && p.began >= s.Rotation {
			r.Rotated = append(r.Rotated, p.at-s.Rotation)
		}
		p.held = p.began
		p.at = p.began + Interval
	case p.retried < sdkRetries:
		p.retried++
		wait := max(after, sdkDelay*time.Duration(1<<p.retried-1))
		p.at += wait + rand64(random, wait/3)
		return
	case p.held == 0:
		p.at += p.wait
		p.wait = min(2*p.wait, lastRetry)
	default:
		p.at = max(p.at, p.began+Interval)
	}
	p.read, p.retried = 0, 0
}

// polls is a heap of volumes, ordered by their next request.
type polls []*poll

func (q polls) Len() int           { return len(q) }
func (q polls) Less(i, j int) bool { return q[i].at < q[j].at }
func (q polls) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }

// Push implements heap.Interface.
func (q *polls) Push(x any) { *q = append(*q, x.(*poll)) }

// Pop implements heap.Interface.
func (q *polls) Pop() any {
	old := *q
	last := old[len(old)-1]
	*q = old[:len(old)-1]
	return last
}
