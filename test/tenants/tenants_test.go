// Package tenants_test puts ten tenants who mean ill beside one who does not, on one node with the daemon that users get.
// Each of the ten has a namespace, a service account, an application in Entra ID and a vault of its own, and does at the
// same time as the others what it may: it asks for more than there is room for, writes what is dear to read, lets its
// vault throttle or hang, and makes and removes volumes as fast as the kubelet lets it.
//
// What holds: the daemon is never killed, the memory of its process stays small, and the good tenant's volumes come and
// rotate as if it were alone.
package tenants_test

import (
	"context"
	"errors"
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
	// mostRSS is what the process may hold, tmpfs apart.
	mostRSS = 64 << 20
	// mostRatio is how much longer the good tenant's publishes may take in company (p99).
	mostRatio = 3
	// chartLimit is what the chart gives the container.
	chartLimit = 512 << 20
	// latency is that of each vault.
	latency = 20 * time.Millisecond
)

// form is how much there is of everything.
type form struct {
	secrets      int // of the vault that nobody can read whole
	certificates int // of the vault with certificates
	volumes      int // of each hostile tenant
	measured     int // publishes of the good tenant, alone and in company
	rotated      int // rotations of the good tenant
	pace         int // how many times as fast as a real kubelet the hostile tenants' is
}

func TestHostileTenants(t *testing.T) {
	f := form{secrets: 4_000, certificates: 20, volumes: 12, measured: 100, rotated: 5, pace: 10}
	if suite.Long() {
		f = form{secrets: 16_000, certificates: 250, volumes: 30, measured: 800, rotated: 30, pace: 1}
	}
	n := node.New(t, node.Options{Flags: []string{"--mount-max-age=0"}, Env: []string{"GOMEMLIMIT=48MiB"}})
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
	good.measure(t, f.measured) // warms up
	alone := good.measure(t, f.measured)

	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for h, attack := range tenants {
		running.Go(func() { h.run(ctx, attack) })
	}
	company := good.measure(t, f.measured)
	good.rotate(t, f.rotated)
	stop()
	running.Wait()

	held, err := n.Footprint(t.Context())
	if err != nil {
		t.Fatalf("the daemon is gone: %v", err)
	}
	peak := held.Peak
	ratio := float64(company.p99) / float64(alone.p99)
	suite.Verdict(t, "hostile tenants: process %d MiB at most; publish of the good tenant p50 %v alone, %v in company, p99 %v and %v, %.1f times as long; %d rotations in time",
		peak>>20, round(alone.p50), round(company.p50), round(alone.p99), round(company.p99), ratio, f.rotated)
	if suite.Long() && ratio > mostRatio { // the short form runs beside other tests, which decide how long things take
		t.Errorf("the good tenant waited %.1f times as long as alone, more than %d", ratio, mostRatio)
	}
	if peak > mostRSS {
		t.Errorf("the process held %d MiB, more than %d", peak>>20, mostRSS>>20)
	}
}

// limitMemory gives the daemon the memory that the chart gives it.
func limitMemory(t *testing.T, n *node.Node) {
	t.Helper()
	group, err := node.NewMemoryGroup()
	if err != nil {
		t.Logf("the daemon runs without a limit of memory, for there is no memory cgroup that can be divided: %v", err)
		return
	}
	t.Cleanup(func() {
		_, _ = n.StopDaemon(syscall.SIGKILL) // a group with processes cannot be removed
		suite.Eventually(t, "the cgroup is empty", func() bool { return group.Remove() == nil })
	})
	if err := errors.Join(group.Add(n.PID()), group.Limit(chartLimit)); err != nil {
		t.Fatal(err)
	}
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
