package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

// first measures a new daemon, which knows neither the identity nor the vault: with one pod, and with many at once.
func (b *bench) first(ctx context.Context) error {
	t := newTable("after a start of the daemon", "ms", "trips", "one after another", "vault requests", "of these 401", "token requests", "other login requests")
	trip, err := b.farTrip(ctx)
	if err != nil {
		return err
	}
	far, err := b.firstPods(ctx, t, "the first pod, ten secrets, vault and login far", 1, trip)
	if err != nil {
		return err
	}
	if _, err := b.firstPods(ctx, t, "the first pod, ten secrets, both on loopback", 1, 0); err != nil {
		return err
	}
	burst, err := b.firstPods(ctx, t, fmt.Sprintf("%d pods of one identity at once, the same ten secrets", b.burst), b.burst, 0)
	if err != nil {
		return err
	}
	t.write(b.out, fmt.Sprintf("The first publish, median of %d starts", b.firsts),
		fmt.Sprintf("trips: the time in units of one request to the vault by a bare HTTP client (%s ms); one after another: the longest chain", ms(trip)),
		"of requests that each wait for the one before; 401 is the challenge, once for each vault; ms until the last pod has its volume")
	b.goals.record(goalCold, float64(far.took)/float64(trip) <= 5, "%s trips (%s ms, trip %s ms); %d requests one after another",
		ratio(far.took, trip), ms(far.took), ms(trip), far.chain)
	objects := burst.vault - burst.challenge
	b.goals.record(goalBurst, objects <= 10 && burst.token <= b.burst && burst.challenge <= 1,
		"%d vault requests, %d tokens; and %d challenge (401), the vault's first (%d pods)", objects, burst.token, burst.challenge, b.burst)
	return nil
}

// farTrip is the duration of a request to a far vault.
func (b *bench) farTrip(ctx context.Context) (time.Duration, error) {
	n, err := startNode(ctx)
	if err != nil {
		return 0, err
	}
	defer n.Close()
	if _, err := n.Cloud.Inject(devcloud.Fault{Action: devcloud.Delay, Delay: far}); err != nil {
		return 0, err
	}
	s, err := alternate(ctx, b.slowRounds, roundTrip(n))
	return s[0].median(), err
}

// firstStart is the start of the first pods of a daemon.
type firstStart struct {
	requests
	took  time.Duration
	chain int
}

// firstPods starts pods at once with a new daemon, several times, and returns the median by time. With a trip the cloud is far.
func (b *bench) firstPods(ctx context.Context, t *table, name string, count int, trip time.Duration) (median firstStart, err error) {
	var all []firstStart
	for range b.firsts {
		one, err := b.begin(ctx, count, trip > 0)
		if err != nil {
			return median, err
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(x, y firstStart) int { return int(x.took - y.took) })
	median = all[len(all)/2]
	trips, chain := "-", "-" // on loopback also independent requests come one after the other
	if trip > 0 {
		trips, chain = ratio(median.took, trip), fmt.Sprint(median.chain)
	}
	t.add(name, ms(median.took), trips, chain, fmt.Sprint(median.vault), fmt.Sprint(median.challenge),
		fmt.Sprint(median.token), fmt.Sprint(median.login-median.token))
	return median, nil
}

func (b *bench) begin(ctx context.Context, count int, isFar bool) (one firstStart, err error) {
	n, err := startNode(ctx)
	if err != nil {
		return one, err
	}
	defer n.Close()
	if isFar {
		if _, err := n.Cloud.Inject(devcloud.Fault{Action: devcloud.Delay, Delay: far}); err != nil {
			return one, err
		}
	}
	pods, err := newPods(ctx, n, newPod, "first", count, secrets(10))
	if err != nil {
		return one, err
	}
	started := time.Now()
	if err := each(ctx, pods, count, (*pod).publish); err != nil {
		return one, err
	}
	one.took = time.Since(started)
	one.requests, one.chain = requestsOf(n.Cloud), chain(n.Cloud.Requests())
	return one, nil
}

// chain is the length of the longest chain of requests that were each sent after the answer to the one before.
func chain(all []devcloud.Request) (length int) {
	var ends []devcloud.Request
	for _, r := range all {
		if r.Service != devcloud.ServiceProxy && !r.Answered.IsZero() {
			ends = append(ends, r)
		}
	}
	slices.SortFunc(ends, func(x, y devcloud.Request) int { return x.Answered.Compare(y.Answered) })
	var last time.Time
	for _, r := range ends { // of all possible next requests, the one that ends first
		if r.Time.After(last) {
			length, last = length+1, r.Answered
		}
	}
	return length
}

// each calls do for all pods, atATime in parallel.
func each(ctx context.Context, pods []*pod, atATime int, do func(*pod, context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atATime)
	for _, p := range pods {
		g.Go(func() error { return do(p, ctx) })
	}
	return g.Wait()
}
