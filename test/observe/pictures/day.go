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

// speed is how much faster volumes age than the clock runs: a second of the pictures is half a minute of a cluster.
const speed = 30

// The day: twenty volumes with four objects of eight, the kubelet's call for each every two seconds (a minute), a
// rotation interval of two minutes (four seconds).
const (
	pods    = 20
	objects = 8
	round   = 2 * time.Second

	rotates        = 25 * time.Second // after the beginning; so are the others
	throttleBegins = 55 * time.Second
	throttleEnds   = 85 * time.Second
	outageBegins   = 130 * time.Second
	outageEnds     = 165 * time.Second
	length         = 210 * time.Second
)

type day struct {
	node    *node.Node
	volumes []kubelet.Volume
}

func newDay(ctx context.Context) (*day, error) {
	n, err := node.Start(ctx, node.Options{Flags: []string{"--rotation-interval=2m"}})
	if err != nil {
		return nil, err
	}
	d := &day{node: n}
	d.fill("first")
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

// fill gives every object a new value.
func (d *day) fill(value string) {
	for i := range objects {
		d.node.Vault.SetSecret(objectName(i), value, devcloud.SecretOptions{})
	}
}

func (d *day) address() string { return strings.TrimPrefix(d.node.HTTP, "http://") }

// live lets the day pass.
func (d *day) live(ctx context.Context) error {
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
	d.fill("second")
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

// keep is what the kubelet does for one volume: a call each round. To each call the set is as old as on a slow day.
func (d *day) keep(ctx context.Context, v kubelet.Volume) {
	target := d.node.Target(v)
	var fetched time.Time // of the set; zero until there is one
	for ctx.Err() == nil {
		begun := time.Now()
		aged := begun.Add(-speed * begun.Sub(fetched))
		if !fetched.IsZero() && aging.Set(target, aged) != nil {
			return
		}
		_ = d.node.Publish(ctx, v)
		// The driver keeps the time of the fetch here.
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
