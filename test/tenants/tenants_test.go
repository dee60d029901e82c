// Package tenants_test runs ten hostile tenants and a good one on one node, with the daemon that users get. Each hostile tenant has its
// own namespace, service account, application in Entra ID and vault. At the same time as the others it asks for too much content, has
// content that is expensive to decode, makes its vault throttle or hang, and creates and deletes volumes as fast as the kubelet allows.
//
// The promises: the daemon is never killed, the memory of its process stays small, and the good tenant's volumes are published and
// rotate as if it were alone.
package tenants_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

func TestMain(m *testing.M) { os.Exit(mountns.Main(m)) }

const (
	// mostRSS is the allowed memory of the process, without tmpfs.
	mostRSS = 64 << 20
	// mostRatio is how many times as long the good tenant's publishes may take with the others (p99). It is far above what the
	// processors alone cause, 2 to 5 times on two of them: a publish that waits for another tenant's takes seconds, a hundred
	// times as long.
	mostRatio = 20
	// chartLimit is the memory limit of the chart.
	chartLimit = 512 << 20
	// latency is that of each vault.
	latency = 20 * time.Millisecond
)

// form is the size of a run.
type form struct {
	secrets      int // in the vault that is larger than a volume
	certificates int // in the vault with certificates
	volumes      int // of each hostile tenant
	alone        int // publishes of the good tenant alone
	together     int // and with the others
	rotated      int // rotations of the good tenant
	pace         int // of the hostile tenants' kubelet, as a multiple of a real kubelet's
}

func TestHostileTenants(t *testing.T) {
	f := form{secrets: 4_000, certificates: 20, volumes: 12, alone: 100, together: 100, rotated: 5, pace: 10}
	if suite.Long() {
		f = form{secrets: 16_000, certificates: 250, volumes: 30, alone: 800, together: 2400, rotated: 30, pace: 1}
	}
	n := node.New(t, node.Options{Flags: []string{"--mount-max-age=0"}, Env: []string{fmt.Sprint("MEMORY_LIMIT=", chartLimit)}})
	limitMemory(t, n)
	if _, err := n.Cloud.Inject(devcloud.Fault{Action: devcloud.Delay, Service: devcloud.ServiceVault, Delay: latency}); err != nil {
		t.Fatal(err)
	}
	good := newGood(t, n)
	tenants := map[*hostile]attack{}
	for i, a := range attacks() {
		h := newHostile(t, n, i, f)
		a.fill(h)
		tenants[h] = a
	}
	good.measure(t, f.alone) // warms up
	alone := good.measure(t, f.alone)

	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for h, attack := range tenants {
		running.Go(func() { h.run(ctx, attack) })
	}
	together := good.measure(t, f.together)
	good.rotate(t, f.rotated)
	stop()
	running.Wait()

	held, err := n.Footprint(t.Context())
	if err != nil {
		t.Fatalf("the daemon is gone: %v", err)
	}
	peak := held.Peak
	ratio := float64(together.p99) / float64(alone.p99)
	suite.Verdict(t, "hostile tenants: process %d MiB at most; publish of the good tenant p50 %v alone, %v with the others, p99 %v and %v, %.1f times as long; %d rotations in time",
		peak>>20, round(alone.p50), round(together.p50), round(alone.p99), round(together.p99), ratio, f.rotated)
	if suite.Long() && ratio > mostRatio { // the short form runs in parallel with other tests
		t.Errorf("the good tenant's publishes took %.1f times as long as alone, more than %d", ratio, mostRatio)
	}
	if peak > mostRSS {
		t.Errorf("the process held %d MiB, more than %d", peak>>20, mostRSS>>20)
	}
}

// limitMemory sets the chart's memory limit for the daemon.
func limitMemory(t *testing.T, n *node.Node) {
	t.Helper()
	group, err := node.NewMemoryGroup()
	if err != nil {
		t.Logf("the daemon runs without a limit of memory, for there is no memory cgroup that can be divided: %v", err)
		return
	}
	t.Cleanup(func() {
		_, _ = n.StopDaemon(syscall.SIGKILL) // a group with processes cannot be removed
		group.RemoveWhenEmpty(t)
	})
	if err := errors.Join(group.Add(n.PID()), group.Limit(chartLimit)); err != nil {
		t.Fatal(err)
	}
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
