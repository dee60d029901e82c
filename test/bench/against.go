package main

import (
	"context"
	"fmt"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// builds are the two daemons of a comparison: this one, and an earlier one. Each has a cloud of its own, and both have the same pods.
type builds [2]*node.Node

// against measures this build of the daemon and the one in a file alternately, so that a disturbance of the machine affects both.
func (b *bench) against(ctx context.Context, binary string) error {
	if err := b.machine(ctx); err != nil {
		return err
	}
	for _, c := range caches {
		for _, v := range []struct {
			delay  time.Duration
			rounds int
		}{{0, b.rounds}, {far, b.slowRounds}} {
			if c.full && v.delay > 0 {
				continue // what is cached asks nobody
			}
			if err := b.compare(ctx, binary, c, v.delay, v.rounds); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) compare(ctx context.Context, binary string, c cache, delay time.Duration, rounds int) error {
	both, err := startBoth(ctx, binary, delay, c.flags...)
	if err != nil {
		return err
	}
	defer both.close()
	t := newTable("", "before", "now", "ratio")
	row := func(name string, before, now float64, digits int) {
		t.add(name, fmt.Sprintf("%.*f", digits, before), fmt.Sprintf("%.*f", digits, now), fmt.Sprintf("%.2f", now/before))
	}
	if !c.full && delay == 0 {
		idle, err := both.memory(ctx, b)
		if err != nil {
			return err
		}
		row("memory after the start, MiB", idle[1], idle[0], 1)
	}
	for _, latency := range latencyRows {
		var steps []step
		for _, n := range both {
			p, err := latency.pod(ctx, n, podName(latency.name), latency.content)
			if err != nil {
				return err
			}
			steps = append(steps, p.publish, p.unpublish)
		}
		s, err := alternate(ctx, rounds, steps...)
		if err != nil {
			return fmt.Errorf("%s: %w", latency.name, err)
		}
		row(latency.name+", publish p50 ms", inMS(s[2]), inMS(s[0]), 3)
		row(latency.name+", unpublish p50 ms", inMS(s[3]), inMS(s[1]), 3)
	}
	if delay == 0 {
		if err := b.compareCosts(ctx, both, row); err != nil {
			return err
		}
	}
	t.write(b.out, fmt.Sprintf("Before and now, alternately: %s, vault and login %d ms away, %d rounds", c.name, delay.Milliseconds(), rounds))
	return nil
}

// compareCosts publishes and unpublishes ten secrets with one and with several callers.
func (b *bench) compareCosts(ctx context.Context, both builds, row func(string, float64, float64, int)) error {
	for _, callers := range []int{1, atATime} {
		var costs [2]cost
		var pods [2][]*pod
		for i, n := range both {
			var err error
			if pods[i], err = newPods(ctx, n, newProvenPod, fmt.Sprintf("row-%d", callers), b.publishes, secrets(10)); err != nil {
				return err
			}
		}
		for round := range 2*turns + 1 {
			for i, n := range both {
				for _, do := range []func(*pod, context.Context) error{(*pod).publish, (*pod).unpublish} {
					one, err := timed(ctx, n, pods[i], callers, do)
					if err != nil {
						return err
					}
					if round > 0 { // the first is a warm-up
						costs[i] = costs[i].plus(one)
					}
				}
			}
		}
		volumes := float64(2 * turns * b.publishes)
		row(fmt.Sprintf("%d callers, CPU s for 1,000 publish + unpublish", callers),
			costs[1].cpu.Seconds()*1000/volumes, costs[0].cpu.Seconds()*1000/volumes, 2)
		row(fmt.Sprintf("%d callers, ms for one publish + unpublish", callers),
			costs[1].took.Seconds()*1000/volumes, costs[0].took.Seconds()*1000/volumes, 3)
	}
	return nil
}

func startBoth(ctx context.Context, binary string, delay time.Duration, flags ...string) (both builds, err error) {
	defer func() {
		if err != nil {
			both.close()
		}
	}()
	for i, file := range []string{"", binary} {
		if both[i], err = startBuild(ctx, file, flags...); err != nil {
			return both, err
		}
		if err := addFarCertificate(both[i], delay); err != nil {
			return both, err
		}
	}
	return both, nil
}

// addFarCertificate gives a vault the certificate of latencyRows, and puts it and the login at a distance.
func addFarCertificate(n *node.Node, delay time.Duration) error {
	if _, err := n.Vault.SetCertificate("web-tls", devcloud.CertificateOptions{CommonName: "www.example.com", Intermediates: 1}); err != nil {
		return err
	}
	for _, service := range []devcloud.Service{devcloud.ServiceVault, devcloud.ServiceLogin} {
		if _, err := n.Cloud.Inject(devcloud.Fault{Action: devcloud.Delay, Service: service, Delay: delay}); err != nil {
			return err
		}
	}
	return nil
}

// memory is what each of the builds uses now, in MiB.
func (both builds) memory(ctx context.Context, b *bench) (used [2]float64, err error) {
	for i, n := range both {
		u, err := b.settled(ctx, n.PID())
		if err != nil {
			return used, err
		}
		used[i] = float64(u.rss) / 1024
	}
	return used, nil
}

func (both builds) close() {
	for _, n := range both {
		if n != nil {
			n.Close()
		}
	}
}

func inMS(s samples) float64 { return s.median().Seconds() * 1000 }
