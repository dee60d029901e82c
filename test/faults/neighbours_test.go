package faults_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// neighbours publish volumes of a vault that is well, all the time.
type neighbours struct {
	cancel  context.CancelFunc
	running sync.WaitGroup
	longest slowest

	mu    sync.Mutex
	calls int
}

func (w *world) startNeighbours(t *testing.T, p place) *neighbours {
	ctx, cancel := context.WithCancel(t.Context())
	n := &neighbours{cancel: cancel}
	if !p.neighbours {
		return n
	}
	const pause = 50 * time.Millisecond
	for i := range suite.Rounds(1, 3) {
		n.running.Go(func() {
			again := time.NewTicker(pause)
			defer again.Stop()
			for k := 0; ctx.Err() == nil; k++ {
				n.once(t, w, fmt.Sprintf("neighbour-%d-%d", i, k))
				select {
				case <-again.C:
				case <-ctx.Done():
				}
			}
		})
	}
	return n
}

func (n *neighbours) once(t *testing.T, w *world, name string) {
	v := neighbour(name)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	began := time.Now()
	if err := w.Publish(ctx, v); err != nil {
		t.Errorf("a volume that has nothing to do with the faults: %v", err)
		return
	}
	n.longest.add(time.Since(began))
	if got, err := os.ReadFile(filepath.Join(w.Target(v), "secrets/value")); err != nil || string(got) != "healthy" {
		t.Errorf("a volume that has nothing to do with the faults reads %q, %v", got, err)
	}
	if err := w.Unpublish(ctx, v); err != nil {
		t.Errorf("a volume that has nothing to do with the faults: %v", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls++
}

func (n *neighbours) stop(t *testing.T) {
	n.cancel()
	n.running.Wait()
	if n.calls > 0 && !t.Failed() {
		suite.Verdict(t, "%s: %d volumes of a healthy vault beside, the slowest published in %v", t.Name(), n.calls, n.longest.get())
	}
}

// TestAHangingVaultSlowsNobody has more calls hang at one vault than the daemon sends to a vault at the same time, and
// wants all of those for another vault to be done while they hang.
func TestAHangingVaultSlowsNobody(t *testing.T) {
	t.Parallel()
	const volumes = 48
	w := start(t, node.Options{})
	stuck, err := w.Cloud.AddVault("stuck", devcloud.VaultOptions{Tenant: node.Tenant})
	if err != nil {
		t.Fatal(err)
	}
	clear, err := w.Cloud.Inject(devcloud.Fault{Action: devcloud.Hang, Service: devcloud.ServiceVault, Host: stuck.Host()})
	if err != nil {
		t.Fatal(err)
	}
	defer clear()
	ctx, cancel := context.WithCancel(t.Context())
	var hanging sync.WaitGroup
	ended := make(chan error, volumes)
	for i := range volumes {
		hanging.Go(func() {
			v := neighbour(fmt.Sprint("stuck-", i))
			v.Attributes["vault"], v.Attributes["secrets"], v.Attributes["timeout"] = stuck.URL(), fmt.Sprint("value-", i), "110s"
			ended <- w.Publish(ctx, v)
		})
	}
	if err := w.Cloud.Wait(t.Context(), devcloud.CountKey{Service: devcloud.ServiceVault, Host: stuck.Host()}, 1); err != nil {
		t.Fatal(err)
	}
	healthy := &neighbours{}
	for i := range volumes {
		healthy.once(t, w, fmt.Sprint("healthy-", i))
	}
	select {
	case err := <-ended:
		t.Errorf("a call that should hang has ended: %v", err)
	default:
	}
	cancel()
	hanging.Wait()
	if !t.Failed() {
		suite.Verdict(t, "isolation: while %d calls hung at one vault, %d volumes of another were published, the slowest in %v", volumes, healthy.calls, healthy.longest.get())
	}
}
