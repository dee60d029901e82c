package faults_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// healthyVolumes are volumes of a healthy vault that come and go during the faults.
type healthyVolumes struct {
	cancel  context.CancelFunc
	running sync.WaitGroup
	longest slowest

	mu    sync.Mutex
	calls int
}

func (fx *fixture) startHealthy(t *testing.T, p setup) *healthyVolumes {
	ctx, cancel := context.WithCancel(t.Context())
	n := &healthyVolumes{cancel: cancel}
	if !p.healthy {
		return n
	}
	const pause = 50 * time.Millisecond
	for i := range suite.Rounds(1, 3) {
		n.running.Go(func() {
			again := time.NewTicker(pause)
			defer again.Stop()
			for k := 0; ctx.Err() == nil; k++ {
				n.once(t, fx, fmt.Sprintf("healthy-%d-%d", i, k))
				select {
				case <-again.C:
				case <-ctx.Done():
				}
			}
		})
	}
	return n
}

func (n *healthyVolumes) once(t *testing.T, fx *fixture, name string) {
	v := healthyVolume(name)
	ctx, cancel := context.WithTimeout(context.Background(), suite.Patience)
	defer cancel()
	began := time.Now()
	if err := fx.Publish(ctx, v); err != nil {
		t.Errorf("a volume of a healthy vault: %v", err)
		return
	}
	n.longest.add(time.Since(began))
	if got, err := os.ReadFile(filepath.Join(fx.Target(v), "secrets/value")); err != nil || string(got) != "healthy" {
		t.Errorf("a volume of a healthy vault reads %q, %v", got, err)
	}
	if err := fx.Unpublish(ctx, v); err != nil {
		t.Errorf("a volume of a healthy vault: %v", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls++
}

func (n *healthyVolumes) stop(t *testing.T) {
	n.cancel()
	n.running.Wait()
	if n.calls > 0 && !t.Failed() {
		suite.Verdict(t, "%s: %d volumes of a healthy vault beside, the slowest published in %v", t.Name(), n.calls, n.longest.get())
	}
}

// TestAHangingVaultSlowsNobody makes more calls hang at one vault than the daemon sends to a vault at the same time. Calls for another
// vault must succeed meanwhile.
func TestAHangingVaultSlowsNobody(t *testing.T) {
	t.Parallel()
	const volumes = 48
	fx := start(t, node.Options{})
	stuck, err := fx.Cloud.AddVault("stuck", devcloud.VaultOptions{Tenant: node.Tenant})
	if err != nil {
		t.Fatal(err)
	}
	clear, err := fx.Cloud.Inject(devcloud.Fault{Action: devcloud.Hang, Service: devcloud.ServiceVault, Host: stuck.Host()})
	if err != nil {
		t.Fatal(err)
	}
	defer clear()
	ctx, cancel := context.WithCancel(t.Context())
	var hanging sync.WaitGroup
	ended := make(chan error, volumes)
	for i := range volumes {
		hanging.Go(func() {
			v := healthyVolume(fmt.Sprint("stuck-", i))
			v.Attributes["vault"], v.Attributes["secrets"], v.Attributes["timeout"] = stuck.URL(), fmt.Sprint("value-", i), "110s"
			err := fx.Publish(ctx, v)
			for strings.Contains(fmt.Sprint(err), "timed out") { // a busy machine has made no connection in time
				err = fx.Publish(ctx, v)
			}
			ended <- err
		})
	}
	if err := fx.Cloud.Wait(t.Context(), devcloud.CountKey{Service: devcloud.ServiceVault, Host: stuck.Host()}, 1); err != nil {
		t.Fatal(err)
	}
	healthy := &healthyVolumes{}
	for i := range volumes {
		healthy.once(t, fx, fmt.Sprint("healthy-", i))
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
