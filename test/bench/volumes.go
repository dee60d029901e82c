package main

import (
	"context"
	"fmt"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/aging"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// atATime is how many pods of a node are started or republished at once.
const atATime = 16

// manyVolumes measures what grows with the number of volumes on a node, each of ten secrets.
// The latencies are those of a full cache where the daemon has one.
func (b *bench) manyVolumes(ctx context.Context) error {
	c := b.caches[len(b.caches)-1]
	n, err := startNode(ctx, c.flags...)
	if err != nil {
		return err
	}
	defer n.Close()
	v := &volumes{
		bench: b, node: n,
		memory: newTable("volumes", "RSS MB", "peak MB", "threads", "files open", "round: s", "CPU s", "vault req.",
			"refresh: s", "CPU s", "vault req.", "token req."),
		latency: newTable("volumes", "publish p50 ms", "p99", "unpublish p50", "p99", "floor p50", "both/floor", "both/floor at none"),
		rss:     b.plots.add("memory", "Memory of the daemon (tmpfs not counted)", "volumes of ten secrets", "MB"),
		time:    b.plots.add("volumes", "One more volume of ten secrets, "+c.name, "volumes mounted already", "ms"),
	}
	if v.extra, err = newPod(ctx, n, "one-more", secrets(10)); err != nil {
		return err
	}
	for _, count := range b.volumes {
		if err := v.grow(ctx, count); err != nil {
			return err
		}
		if err := v.measure(ctx, fmt.Sprint(count)); err != nil {
			return err
		}
	}
	if err := each(ctx, v.pods, atATime, (*pod).unpublish); err != nil {
		return err
	}
	v.pods = nil
	if err := v.measure(ctx, "0 again"); err != nil {
		return err
	}
	v.memory.write(b.out, "Memory and CPU of the daemon with many volumes of ten secrets",
		"round: every volume republished inside the interval, as the kubelet does each 60 to 90 s; refresh: the same after the interval,",
		"every secret older than that and none changed")
	v.latency.write(b.out, fmt.Sprintf("One more volume of ten secrets, beside those, warm client, %s, %d rounds", c.name, b.volumeTurns))
	return nil
}

type volumes struct {
	*bench
	node            *node.Node
	pods            []*pod
	extra           *pod
	memory, latency *table
	rss, time       *plot
	none            float64 // both/floor with no volumes
}

// grow publishes volumes until there are so many.
func (v *volumes) grow(ctx context.Context, count int) error {
	more, err := newPods(ctx, v.node, fmt.Sprintf("of-%d", count), count-len(v.pods), secrets(10))
	if err != nil {
		return err
	}
	v.pods = append(v.pods, more...)
	return each(ctx, more, atATime, (*pod).publish)
}

func (v *volumes) measure(ctx context.Context, label string) error {
	u, err := settled(ctx, v.node.PID())
	if err != nil {
		return err
	}
	round, err := v.round(ctx)
	if err != nil {
		return err
	}
	for _, p := range v.pods {
		if err := aging.Set(p.wish.GetTargetPath(), time.Now().Add(-time.Hour)); err != nil {
			return err
		}
	}
	refresh, err := v.round(ctx)
	if err != nil {
		return err
	}
	v.memory.add(label, megabytes(u.rss), megabytes(u.peak), fmt.Sprint(u.threads), fmt.Sprint(u.files),
		fmt.Sprintf("%.2f", round.took.Seconds()), fmt.Sprintf("%.2f", round.cpu.Seconds()), fmt.Sprint(round.vault),
		fmt.Sprintf("%.2f", refresh.took.Seconds()), fmt.Sprintf("%.2f", refresh.cpu.Seconds()), fmt.Sprint(refresh.vault), fmt.Sprint(refresh.token))

	f, err := newFloor(10)
	if err != nil {
		return err
	}
	s, err := inTurns(ctx, v.volumeTurns, f.warm, f.step, v.extra.publish, v.extra.unpublish)
	if err != nil {
		return err
	}
	floor, publish, unpublish := s[1], s[2], s[3]
	against := float64(publish.plus(unpublish).median()) / float64(floor.median())
	if v.none == 0 {
		v.none = against
	}
	v.latency.add(label, ms(publish.median()), ms(publish.quantile(0.99)), ms(unpublish.median()), ms(unpublish.quantile(0.99)),
		ms(floor.median()), fmt.Sprintf("%.2f", against), fmt.Sprintf("%.2f", against/v.none))
	if label == "0 again" {
		return nil
	}
	x := float64(len(v.pods))
	v.rss.value("RSS", x, float64(u.rss)*1024/1e6)
	v.time.point("publish p99", x, publish.quantile(0.99))
	v.time.point("publish p50", x, publish.median())
	v.time.point("unpublish p50", x, unpublish.median())
	v.time.point("floor p50", x, floor.median())
	return nil
}

// cost is what one round of republishes took.
type cost struct {
	requests
	took, cpu time.Duration
}

func (v *volumes) round(ctx context.Context) (c cost, err error) {
	before := requestsOf(v.node.Cloud)
	cpu, err := cpuOf(v.node.PID())
	if err != nil {
		return c, err
	}
	started := time.Now()
	if err := each(ctx, v.pods, atATime, (*pod).publish); err != nil {
		return c, err
	}
	c.took = time.Since(started)
	after, err := cpuOf(v.node.PID())
	c.cpu, c.requests = after-cpu, requestsOf(v.node.Cloud).since(before)
	return c, err
}

func megabytes(kib int64) string { return fmt.Sprintf("%.1f", float64(kib)*1024/1e6) }
