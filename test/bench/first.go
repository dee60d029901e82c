package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

// first measures a daemon that knows neither the identity nor the vault yet: one pod alone, and many that start at once.
func (b *bench) first(ctx context.Context) error {
	t := newTable("after a start of the daemon", "ms", "round trips", "vault requests", "token requests", "other login requests")
	for _, row := range []struct {
		name  string
		pods  int
		delay time.Duration
	}{
		{"the first pod, ten secrets, vault and login far", 1, far},
		{"the first pod, ten secrets, both on loopback", 1, 0},
		{fmt.Sprintf("%d pods of one identity at once, the same ten secrets", b.burst), b.burst, 0},
	} {
		cells, err := b.firstPods(ctx, row.pods, row.delay)
		if err != nil {
			return err
		}
		t.add(append([]string{row.name}, cells...)...)
	}
	t.write(b.out, "The first publish", fmt.Sprintf("round trips: the time in units of the delay, %s", far),
		"vault requests include the ones that are answered with the challenge, 401; ms until the last pod has its volume")
	return nil
}

func (b *bench) firstPods(ctx context.Context, count int, delay time.Duration) (cells []string, err error) {
	n, err := startNode(ctx)
	if err != nil {
		return nil, err
	}
	defer n.Close()
	if _, err := n.Cloud.Inject(devcloud.Fault{Action: devcloud.Delay, Delay: delay}); err != nil {
		return nil, err
	}
	pods, err := newPods(ctx, n, "first", count, secrets(10))
	if err != nil {
		return nil, err
	}
	started := time.Now()
	if err := each(ctx, pods, count, (*pod).publish); err != nil {
		return nil, err
	}
	took := time.Since(started)
	trips := "-"
	if delay > 0 {
		trips = fmt.Sprintf("%.1f", float64(took)/float64(delay))
	}
	r := requestsOf(n.Cloud)
	login := n.Cloud.Count(devcloud.CountKey{Service: devcloud.ServiceLogin})
	return []string{ms(took), trips, fmt.Sprint(r.vault), fmt.Sprint(r.token), fmt.Sprint(login - r.token)}, nil
}

// each calls do for all pods, so many at a time.
func each(ctx context.Context, pods []*pod, atATime int, do func(*pod, context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atATime)
	for _, p := range pods {
		g.Go(func() error { return do(p, ctx) })
	}
	return g.Wait()
}
