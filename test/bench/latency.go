package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// far is the delay of a vault that is not on loopback.
const far = 20 * time.Millisecond

// latencyRow is one line of the table of latencies.
type latencyRow struct {
	name string
	pod  maker
	content
	plotted int // objects, if the row is a point of the plots; else 0
}

var latencyRows = []latencyRow{
	{"1 secret", newProvenPod, secrets(1), 1},
	{"10 secrets", newProvenPod, secrets(10), 10},
	{"10 secrets, attribute secrets", newProvenPod, listed(10), 0},
	{"10 secrets, each time a new pod", newPod, secrets(10), 0},
	{"50 secrets", newProvenPod, secrets(50), 50},
	{"1 certificate, key and chain", newProvenPod, certificate(), 0},
}

// latency measures publish and unpublish of one volume at a time.
func (b *bench) latency(ctx context.Context) error {
	for _, v := range []struct {
		delay  time.Duration
		rounds int
	}{{0, b.rounds}, {far, b.slowRounds}} {
		for _, c := range caches {
			rounds := v.rounds
			if !c.full && v.delay == 0 { // by far the slowest
				rounds = (rounds + 2) / 3
			}
			if err := b.latencies(ctx, c, v.delay, rounds); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) latencies(ctx context.Context, c cache, delay time.Duration, rounds int) error {
	n, err := startNode(ctx, c.flags...)
	if err != nil {
		return err
	}
	defer n.Close()
	if err := addFarCertificate(n, delay); err != nil {
		return err
	}
	t := newTable("ms", "publish p50", "p95", "p99", "unpublish p50", "p95", "p99", "trip", "floor",
		"publish/(trip+floor)", "publish/floor", "both/floor", "vault req.", "token req.")
	plot := b.plots.add(fmt.Sprintf("latency-%dms-%s", delay.Milliseconds(), strings.ReplaceAll(c.name, " ", "-")),
		fmt.Sprintf("One volume at a time, vault %d ms away, %s", delay.Milliseconds(), c.name), "objects", "ms")
	for _, row := range latencyRows {
		p, err := row.pod(ctx, n, podName(row.name), row.content)
		if err != nil {
			return err
		}
		f, err := newFloor(row.files)
		if err != nil {
			return err
		}
		before := requestsOf(n.Cloud)
		s, err := alternate(ctx, rounds, f.warm, f.step, p.publish, p.unpublish, roundTrip(n), probe(n))
		if err != nil {
			return fmt.Errorf("%s: %w", row.name, err)
		}
		floor, publish, unpublish, trip, probed := s[1], s[2], s[3], s[4], s[5]
		calls := rounds + (rounds+9)/10 // with warm-up rounds
		t.add(slices.Concat([]string{row.name}, publish.three(), unpublish.three(), []string{
			ms(trip.median()), ms(floor.median()),
			ratio(publish.median(), trip.median()+floor.median()), ratio(publish.median(), floor.median()),
			ratio(publish.plus(unpublish).median(), floor.median()),
		}, requestsOf(n.Cloud).since(before).per(calls))...)
		if row.plotted == 10 {
			b.recordLatency(c, delay, publish.median(), unpublish.median(), trip.median(), floor.median(), probed.median())
		}
		if row.plotted > 0 {
			x := float64(row.plotted)
			plot.point("publish p99", x, publish.quantile(0.99))
			plot.point("publish p95", x, publish.quantile(0.95))
			plot.point("publish p50", x, publish.median())
			plot.point("unpublish p50", x, unpublish.median())
			plot.point("floor p50", x, floor.median())
		}
	}
	t.write(b.out, fmt.Sprintf("One volume at a time, warm client, %s, vault and login %d ms away, %d rounds", c.name, delay.Milliseconds(), rounds),
		"trip: one request to the vault by a bare HTTP client, p50; floor: mount, as many files of 1 KiB, unmount by system calls, p50;",
		"both: publish and unpublish, p50; requests are those of one publish; a new pod proves itself to Entra ID, the others have,",
		"because they have another volume")
	return nil
}

// recordLatency records the goals of the rows with ten secrets. The floor has no call to another process, so a publish is compared with
// the floor and a Probe. The floor has an unmount and the publish has none, so both together are recorded too.
func (b *bench) recordLatency(c cache, delay, publish, unpublish, trip, floor, probed time.Duration) {
	switch {
	case delay == 0 && c.full:
		b.goals.record(goalWarm, float64(publish) <= 2.25*float64(floor+probed), "%s × (%s ms, floor %s ms, Probe %s ms; %s floors, with its unpublish %s)",
			ratio(publish, floor+probed), ms(publish), ms(floor), ms(probed), ratio(publish, floor), ratio(publish+unpublish, floor))
	case delay > 0 && !c.full:
		b.goals.record(goalFar, float64(publish-floor) <= 1.5*float64(trip), "%s × trip + floor (%s ms, trip %s ms, floor %s ms)",
			ratio(publish-floor, trip), ms(publish), ms(trip), ms(floor))
	}
}

// roundTrip sends a request to the vault that it refuses at once, so that its duration is that of the network.
func roundTrip(n *node.Node) step {
	client := n.Cloud.HTTPClient()
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, node.VaultURL+"/", nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return fmt.Errorf("round trip: %w", err)
		}
		defer func() { _ = response.Body.Close() }()
		_, err = io.Copy(io.Discard, response.Body)
		return err
	}
}

// calls measures calls without the vault: the socket only, the files only, and a republish of a fresh volume.
func (b *bench) calls(ctx context.Context) error {
	n, err := startNode(ctx)
	if err != nil {
		return err
	}
	defer n.Close()
	p, err := newPod(ctx, n, "calls", secrets(10))
	if err != nil {
		return err
	}
	if err := p.publish(ctx); err != nil {
		return err
	}
	f, err := newFloor(10)
	if err != nil {
		return err
	}
	mount, unmount, err := storeSteps(10)
	if err != nil {
		return err
	}
	before := requestsOf(n.Cloud)
	s, err := alternate(ctx, b.rounds, f.warm, f.step, mount, unmount, probe(n), p.publish)
	if err != nil {
		return err
	}
	floor, mounted, unmounted, probed, republished := s[1], s[2], s[3], s[4], s[5]
	both := mounted.plus(unmounted)
	t := newTable("ms", "p50", "p95", "p99", "least", "against", "p50 ratio", "least ratio")
	line := func(name string, s samples, against string, base samples) {
		t.add(slices.Concat([]string{name}, s.three(), []string{
			ms(s.quantile(0)), against, ratio(s.median(), base.median()), ratio(s.quantile(0), base.quantile(0)),
		})...)
	}
	line("floor, ten files", floor, "itself", floor)
	line("pkg/tmpfs alone: publish", mounted, "floor", floor)
	line("pkg/tmpfs alone: unpublish", unmounted, "floor", floor)
	line("pkg/tmpfs alone: both", both, "floor", floor)
	line("Probe at the socket", probed, "itself", probed)
	line("republish inside the interval", republished, "Probe", probed)
	b.goals.record(goalRepublish, republished.median() <= 2*probed.median(), "%s × (%s ms, Probe %s ms)",
		ratio(republished.median(), probed.median()), ms(republished.median()), ms(probed.median()))
	t.write(b.out, fmt.Sprintf("Calls without the vault, ten files, %d rounds", b.rounds),
		fmt.Sprintf("requests of the republishes: %d to the vault", requestsOf(n.Cloud).since(before).vault))
	return nil
}

func probe(n *node.Node) step {
	return func(ctx context.Context) error {
		_, err := n.Identity.Probe(ctx, &csi.ProbeRequest{})
		return err
	}
}

// storeSteps publish and unpublish with the driver's store in this process, without socket and vault.
func storeSteps(files int) (publish, unpublish step, err error) {
	f, err := newFloor(files) // for its folder and its data
	if err != nil {
		return nil, nil, err
	}
	store, err := tmpfs.New(tmpfs.Options{KubeletRoot: f.target})
	if err != nil {
		return nil, nil, err
	}
	c := volume.Content{Fetched: time.Now()}
	for i := range files {
		c.Files = append(c.Files, volume.File{Path: secretName(i), Data: volume.NewSecret(f.data)})
	}
	target := f.target + "/mount"
	return func(ctx context.Context) error {
			_, err := store.Publish(ctx, volume.Mount{Target: target}, c)
			return err
		}, func(context.Context) error {
			return store.Unpublish(target)
		}, nil
}
