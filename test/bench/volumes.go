package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// atATime is the number of pods that start or refresh in parallel.
const atATime = 16

// manyVolumes measures values that depend on the number of volumes on a node, each with ten secrets. The latencies are with a full cache, if
// the daemon has one.
func (b *bench) manyVolumes(ctx context.Context) error {
	c := caches[len(caches)-1]
	n, err := startNode(ctx, c.flags...)
	if err != nil {
		return err
	}
	defer n.Close()
	v := &volumes{
		bench: b, node: n,
		memory: newTable("volumes", "RSS MB", "KB a volume", "peak MB", "threads", "files open", "round: s", "CPU s", "vault req.",
			"refresh: s", "CPU s", "vault req.", "token req."),
		latency: newTable("volumes", "publish p50 ms", "p99", "unpublish p50", "p99", "floor p50", "both/floor", "both/floor at none"),
		rss:     b.plots.add("memory", "Memory of the daemon (tmpfs not counted)", "volumes of ten secrets", "MB"),
		publish: map[int]samples{},
		cpu:     b.plots.add("cpu", "CPU of the daemon when every volume is republished once", "volumes of ten secrets", "s"),
		time:    b.plots.add("volumes", "One more volume of ten secrets, "+c.name, "volumes mounted already", "ms"),
	}
	if v.extra, err = newProvenPod(ctx, n, "one-more", secrets(10)); err != nil {
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
	v.latency.write(b.out, fmt.Sprintf("One more volume of ten secrets, beside those, warm client, %s, %d rounds", c.name, b.volumeRounds))
	most := slices.Max(b.volumes)
	none, many := v.publish[0].median(), v.publish[most].median()
	b.goals.record(goalVolumes, float64(many) <= 1.2*float64(none), "%s × (%s ms with %d volumes, %s ms before and after them)",
		ratio(many, none), ms(many), most, ms(none))
	return v.ownObjects(ctx)
}

// ownObjects measures the memory of volumes without common objects, with the default flags: just after the mounts, and at rest after a round
// of the kubelet's calls within the interval. Idle is at rest too.
func (v *volumes) ownObjects(ctx context.Context) error {
	const objects = 10
	n, err := startNode(ctx)
	if err != nil {
		return err
	}
	defer n.Close()
	setSecrets(n, v.own*objects, 'a')
	var pods []*pod
	for i := range v.own {
		p, err := newPodOf(ctx, n, web, fmt.Sprint("own-", i), secretsFrom(i*objects, objects))
		if err != nil {
			return err
		}
		pods = append(pods, p)
	}
	idle, err := v.atRest(ctx, n)
	if err != nil {
		return err
	}
	if err := each(ctx, pods, atATime, (*pod).publish); err != nil {
		return err
	}
	full, err := v.settled(ctx, n.PID())
	if err != nil {
		return err
	}
	if err := each(ctx, pods, atATime, (*pod).publish); err != nil {
		return err
	}
	rest, err := v.atRest(ctx, n)
	if err != nil {
		return err
	}
	t := newTable("no object in two volumes", "RSS MB", "peak MB", "threads", "files open", "vault req.")
	for _, row := range []struct {
		name string
		usage
	}{{"idle", idle}, {fmt.Sprint(len(pods), " volumes, just mounted"), full}, {"at rest", rest}} {
		t.add(row.name, megabytes(row.rss), megabytes(row.peak), fmt.Sprint(row.threads), fmt.Sprint(row.files))
	}
	t.rows[2] = append(t.rows[2], fmt.Sprint(requestsOf(n.Cloud).vault))
	t.write(v.out, fmt.Sprintf("Memory of the daemon with %d volumes of ten secrets of their own", len(pods)),
		fmt.Sprintf("at rest: %s after a round of the kubelet's calls inside the interval; idle: as long after the start", v.rest))
	own := rest.rss - idle.rss
	v.goals.record(goalMemory, max(own, v.shared)*1024 <= 15e6, "idle + %s MB (%d volumes, no object in two; just mounted + %s), + %s MB (%d, all the same)",
		megabytes(own), len(pods), megabytes(full.rss-idle.rss), megabytes(v.shared), memoryGoalVolumes)
	return nil
}

// atRest is the memory after the daemon has dropped unused values, see [size].
func (v *volumes) atRest(ctx context.Context, n *node.Node) (usage, error) {
	if err := pause(ctx, v.rest); err != nil {
		return usage{}, err
	}
	return v.settled(ctx, n.PID())
}

type volumes struct {
	*bench
	node            *node.Node
	pods            []*pod
	extra           *pod
	memory, latency *table
	rss, cpu, time  *plot
	none            float64         // both/floor with no volumes
	idle            int64           // KiB, before the first volume
	shared          int64           // KiB, of memoryGoalVolumes
	publish         map[int]samples // of one more volume, by number of volumes; without volumes before and after all others
}

// memoryGoalVolumes is the number of volumes for the goal of memory.
const memoryGoalVolumes = 500

// grow publishes volumes up to count.
func (v *volumes) grow(ctx context.Context, count int) error {
	more, err := newPods(ctx, v.node, newPod, fmt.Sprintf("of-%d", count), count-len(v.pods), secrets(10))
	if err != nil {
		return err
	}
	v.pods = append(v.pods, more...)
	return each(ctx, more, atATime, (*pod).publish)
}

func (v *volumes) measure(ctx context.Context, label string) error {
	u, err := v.settled(ctx, v.node.PID())
	if err != nil {
		return err
	}
	round, err := v.round(ctx)
	if err != nil {
		return err
	}
	if err := v.age(time.Hour); err != nil {
		return err
	}
	refresh, err := v.round(ctx)
	if err != nil {
		return err
	}
	if v.idle == 0 {
		v.idle = u.rss
	}
	if len(v.pods) == memoryGoalVolumes {
		v.shared = u.rss - v.idle
	}
	each := "-"
	if len(v.pods) > 0 {
		each = fmt.Sprintf("%.1f", float64(u.rss-v.idle)*1.024/float64(len(v.pods)))
	}
	v.memory.add(label, megabytes(u.rss), each, megabytes(u.peak), fmt.Sprint(u.threads), fmt.Sprint(u.files),
		fmt.Sprintf("%.2f", round.took.Seconds()), fmt.Sprintf("%.2f", round.cpu.Seconds()), fmt.Sprint(round.vault),
		fmt.Sprintf("%.2f", refresh.took.Seconds()), fmt.Sprintf("%.2f", refresh.cpu.Seconds()), fmt.Sprint(refresh.vault), fmt.Sprint(refresh.token))

	f, err := newFloor(10)
	if err != nil {
		return err
	}
	s, err := alternate(ctx, v.volumeRounds, f.warm, f.step, v.extra.publish, v.extra.unpublish)
	if err != nil {
		return err
	}
	floor, publish, unpublish := s[1], s[2], s[3]
	v.publish[len(v.pods)] = append(v.publish[len(v.pods)], publish...)
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
	v.cpu.value("refresh after the interval", x, refresh.cpu.Seconds())
	v.cpu.value("inside the interval", x, round.cpu.Seconds())
	v.time.point("publish p99", x, publish.quantile(0.99))
	v.time.point("publish p50", x, publish.median())
	v.time.point("unpublish p50", x, unpublish.median())
	v.time.point("floor p50", x, floor.median())
	return nil
}

// cost is the cost of a number of calls.
type cost struct {
	requests
	took, cpu time.Duration
}

func (c cost) plus(other cost) cost {
	return cost{requests: other.requests, took: c.took + other.took, cpu: c.cpu + other.cpu}
}

// round publishes or republishes all volumes.
func (v *volumes) round(ctx context.Context) (cost, error) {
	return timed(ctx, v.node, v.pods, atATime, (*pod).publish)
}

func megabytes(kib int64) string { return fmt.Sprintf("%.1f", float64(kib)*1024/1e6) }
