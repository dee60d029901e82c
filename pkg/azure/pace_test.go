package azure

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// member is a node of a fleet whose nodes always have requests to send.
type member struct {
	pace   pace
	closed time.Time
	good   int
}

// fleet simulates nodes at a vault that allows a number of requests in each window of ten seconds, and returns for the last part of the
// time the answers that each node had, which part of the limit was used, and which part of all requests was refused.
func fleet(nodes, allowed int, length, last time.Duration) (good []int, used, refused float64) {
	random := rand.New(rand.NewPCG(1, 2))
	members := make([]member, nodes)
	began := time.Unix(0, 0)
	for i := range members {
		members[i] = member{pace: pace{random: random.Float64}, closed: began.Add(inSeconds(random.Float64()))}
	}
	const tick = 50 * time.Millisecond
	refusals, answers := 0, 0
	for at := time.Duration(0); at < length; at += tick {
		now := began.Add(at)
		if at%window == 0 {
			answers = 0
		}
		for _, i := range random.Perm(nodes) {
			m := &members[i]
			if !now.After(m.closed) || m.pace.wait(now, false) > 0 {
				continue
			}
			m.pace.take(now, false)
			counts := at >= length-last
			if answers++; answers <= allowed {
				m.pace.answered(now)
				if counts {
					m.good++
				}
				continue
			}
			retry := began.Add(at.Truncate(window) + window)
			m.closed = retry.Add(inSeconds(random.Float64()))
			m.pace.refused(now, retry, m.closed)
			if counts {
				refusals++
			}
		}
	}
	sum := 0
	for _, m := range members {
		good, sum = append(good, m.good), sum+m.good
	}
	return good, float64(sum) / (float64(allowed) * last.Seconds() / window.Seconds()), float64(refusals) / float64(refusals+sum)
}

// Nodes that start at once find equal shares of a vault, use it, and are seldom refused. The shares are those of 5,000 and 1,000 nodes at a
// vault of Azure.
func TestNodesFindTheirShares(t *testing.T) {
	t.Parallel()
	for name, allowed := range map[string]int{"less than one request in a window": 48, "four": 240} {
		const nodes = 60
		good, used, refused := fleet(nodes, allowed, 20*time.Minute, 18*time.Minute)
		var sum, squares float64
		for _, n := range good {
			sum, squares = sum+float64(n), squares+float64(n)*float64(n)
		}
		if jain := sum * sum / (nodes * squares); jain < .9 || used < .85 || refused > .05 {
			t.Errorf("%s: fairness %.3f, used %.2f, refused %.3f", name, jain, used, refused)
		}
	}
}

// A node that has the vault for itself needs no limit.
func TestANodeAloneHasNoLimit(t *testing.T) {
	t.Parallel()
	good, used, _ := fleet(1, 150, 2*time.Minute, time.Minute)
	if used < .9 {
		t.Errorf("used %.2f, %v answers", used, good)
	}
}

// A vault that refuses everything for long does not leave a low rate behind.
func TestTheRateAfterAnOutage(t *testing.T) {
	t.Parallel()
	p := pace{random: func() float64 { return .5 }}
	now := time.Unix(0, 0)
	for range 60 {
		retry := now.Add(10 * time.Second)
		p.refused(now, retry, retry)
		now = retry.Add(p.wait(retry, false))
		p.take(now, false)
	}
	if p.rate != lastRate {
		t.Errorf("%.3f requests a second after an outage, want %.2f", p.rate, lastRate)
	}
	for began := now; p.limited() && now.Sub(began) < 10*time.Minute; {
		p.answered(now)
		now = now.Add(max(p.wait(now, false), time.Millisecond))
		p.take(now, false)
	}
	if p.limited() {
		t.Errorf("after ten minutes of answers the limit is still %.1f a second", p.rate)
	}
}

// While the pace has no turn, first mounts are sent before the refreshes that waited longer, and a refresh gets no reservation.
func TestMountsGoFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		throttle := NewThrottle(Vault, ConnsPerHost, time.Now, time.After, func() float64 { return .5 })
		_ = throttle.Do(t.Context(), 0, func(ctx context.Context) error {
			return recorded(ctx, responseOf(http.StatusTooManyRequests, http.Header{"Retry-After": {"1"}}))
		})
		if !throttle.Reserve() || throttle.Reserve() {
			t.Error("a refusal must leave one turn")
		}
		<-time.After(2 * time.Second)
		for throttle.Reserve() {
		}
		var mu sync.Mutex
		var order []string
		var calls sync.WaitGroup
		send := func(ctx context.Context, name string) {
			calls.Go(func() {
				_ = throttle.Do(ctx, longPatience, func(context.Context) error {
					mu.Lock()
					defer mu.Unlock()
					order = append(order, name)
					return nil
				})
			})
			synctest.Wait()
		}
		ended, end := context.WithCancel(t.Context())
		for range 3 {
			send(WithRefresh(t.Context()), "refresh")
		}
		send(ended, "ended")
		for range 3 {
			send(t.Context(), "mount")
		}
		if throttle.Reserve() {
			t.Error("a refresh gets the turn of a mount")
		}
		end()
		calls.Wait()
		for i, name := range order {
			if want := map[bool]string{true: "mount", false: "refresh"}[i < 3]; name != want {
				t.Errorf("sent %v", order)
				break
			}
		}
		if len(order) != 6 || !throttle.line.empty() {
			t.Errorf("sent %v", order)
		}
	})
}

// The limit can end with the time that has passed before a request: that request does not wait, and a refresh is not left for later.
func TestTheRequestThatEndsTheLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limited := func() *Throttle {
			throttle := NewThrottle(Vault, ConnsPerHost, time.Now, time.After, func() float64 { return .5 })
			throttle.pace.rate, throttle.pace.lowered, throttle.pace.at = 1, time.Now(), time.Now()
			return throttle
		}
		refresh, mount := limited(), limited()
		<-time.After(12 * time.Hour)
		if !refresh.Reserve() || refresh.Rate() != 0 {
			t.Errorf("a refresh is left for later, at a rate of %g", refresh.Rate())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := mount.Do(ctx, time.Minute, func(context.Context) error { return nil }); err != nil || mount.Rate() != 0 {
			t.Errorf("a mount: %v, at a rate of %g", err, mount.Rate())
		}
	})
}
