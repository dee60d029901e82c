package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/aging"
	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// speed is the acceleration: a second of the run is half a minute of a cluster.
const speed = 30

// The run: twenty volumes with four of eight objects, a call of the kubelet for each every two seconds (a minute), and a rotation interval
// of two minutes (four seconds).
const (
	pods    = 20
	objects = 8
	round   = 2 * time.Second

	rotates        = 25 * time.Second // after the beginning, like the others
	throttleBegins = 55 * time.Second
	throttleEnds   = 85 * time.Second
	outageBegins   = 130 * time.Second
	outageEnds     = 165 * time.Second
	length         = 210 * time.Second
)

type scenario struct {
	node    *node.Node
	volumes []kubelet.Volume
}

func newScenario(ctx context.Context) (*scenario, error) {
	n, err := node.Start(ctx, node.Options{Flags: []string{"--rotation-interval=2m"}})
	if err != nil {
		return nil, err
	}
	d := &scenario{node: n}
	d.setSecrets("first")
	for pod := range pods {
		var names []string
		for i := range 4 {
			names = append(names, objectName((pod+2*i)%objects))
		}
		d.volumes = append(d.volumes, kubelet.Volume{
			Name: fmt.Sprintf("pod-%d", pod), Namespace: node.Namespace, ServiceAccount: node.ServiceAccount,
			Attributes: map[string]string{
				"vault": node.VaultURL, "clientID": node.WorkloadID, "secrets": strings.Join(names, ";"), "timeout": "3s",
			},
		})
	}
	return d, nil
}

func objectName(i int) string { return fmt.Sprintf("object-%d", i) }

// setSecrets gives every object a new value.
func (d *scenario) setSecrets(value string) {
	for i := range objects {
		d.node.Vault.SetSecret(objectName(i), value, devcloud.SecretOptions{})
	}
}

func (d *scenario) address() string { return strings.TrimPrefix(d.node.HTTP, "http://") }

// play runs the scenario.
func (d *scenario) play(ctx context.Context) error {
	ctx, end := context.WithTimeout(ctx, length)
	defer end()
	var kubelets sync.WaitGroup
	for i, v := range d.volumes {
		kubelets.Go(func() {
			wait(ctx, round*time.Duration(i)/pods)
			d.keep(ctx, v)
		})
	}
	wait(ctx, rotates)
	d.setSecrets("second")
	wait(ctx, throttleBegins-rotates)
	stop, err := d.node.Cloud.Inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Throttle, RetryAfter: 2 * time.Second})
	if err != nil {
		return err
	}
	wait(ctx, throttleEnds-throttleBegins)
	stop()
	wait(ctx, outageBegins-throttleEnds)
	if stop, err = d.node.Cloud.Inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Reset}); err != nil {
		return err
	}
	wait(ctx, outageEnds-outageBegins)
	stop()
	kubelets.Wait()
	return nil
}

// keep plays the kubelet for one volume: a call in each round, with the accelerated age of the set.
func (d *scenario) keep(ctx context.Context, v kubelet.Volume) {
	target := d.node.Target(v)
	var fetched time.Time // of the set; zero before the first
	for ctx.Err() == nil {
		begun := time.Now()
		aged := begun.Add(-speed * begun.Sub(fetched))
		if !fetched.IsZero() && aging.Set(target, aged) != nil {
			return
		}
		_ = d.node.Publish(ctx, v)
		// The driver stores the time of the fetch there.
		if set, err := os.Stat(filepath.Join(target, "..data")); err == nil && !set.ModTime().Equal(aged) {
			fetched = set.ModTime()
		}
		wait(ctx, round-time.Since(begun))
	}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
