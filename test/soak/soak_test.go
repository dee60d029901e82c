// Package soak_test publishes, rotates and unpublishes many volumes for an hour, while vaults and logins fail, values change and the daemon
// is killed. The daemon's promises:
//
//   - a volume is complete or absent, also right after a kill -9;
//   - no update is lost: two rotation intervals after the last fault every volume has the values of its vaults;
//   - a volume never goes back to an older value, and is never older than its time stamp;
//   - memory, descriptors, goroutines and mounts do not grow.
//
// There are two nodes, each with its own daemon process and its own dev cloud. The daemon of the first is killed every minute. The daemon
// of the second is never killed, so that slow leaks show. The kubelets call every 8 to 12 s instead of every 60 to 90 s, and
// rotationInterval is the shortest, 30s, so that an hour has about a hundred rotations.
//
// In `make test` the same takes a quarter of a minute, because volumes are made older than they are, see package aging.
package soak_test

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/internal/suite"
)

func TestMain(m *testing.M) { os.Exit(mountns.Main(m)) }

// Environment variables of the long form. It is a target of its own (`make soak`), so that `make test-long` is done in minutes.
const (
	timeVariable   = "KEYVAULT_CSI_SOAK_TIME" // a Go duration; without it, the short form
	folderVariable = "KEYVAULT_CSI_SOAK_OUT"  // for the report and its plots; default: nowhere
)

// interval is the volumes' rotationInterval.
const interval = 30 * time.Second

// form is the size and speed of a run.
type form struct {
	total         time.Duration
	killed, alive int           // volumes of the node whose daemon is killed, and of the other
	period        time.Duration // of the kubelet's calls, plus or minus up to a fifth
	life          time.Duration // of a volume, plus or minus up to a half
	kill          time.Duration // between kills, plus or minus up to a quarter
	faulty, calm  time.Duration // with faults and without, alternating
	change        time.Duration // between changes of a secret; ten times as long for a certificate
	sample, watch time.Duration // between samples of the process, and checks of all volumes
	bound         time.Duration // for an update after the last fault: two intervals

	// aged makes volumes older before each call of the kubelet, so that each call is a rotation. After a failure the daemon does not ask
	// a vault for up to half a minute, unless it is restarted. So the first daemon is killed after the faults, and the second has only
	// slow vaults.
	aged bool
}

func newForm(t *testing.T) form {
	t.Helper()
	text := os.Getenv(timeVariable)
	if text == "" {
		return short()
	}
	total, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("%s: %v", timeVariable, err)
	}
	return form{
		total: total, killed: 300, alive: 100,
		period: 10 * time.Second, life: 3 * time.Minute, kill: time.Minute,
		faulty: 45 * time.Second, calm: 75 * time.Second, change: 250 * time.Millisecond,
		sample: 5 * time.Second, watch: 2 * time.Second, bound: 2 * interval,
	}
}

func short() form {
	return form{
		total: 9 * time.Second, killed: 32, alive: 12,
		period: time.Second, life: 4 * time.Second, kill: 3 * time.Second,
		faulty: time.Second, calm: 2 * time.Second, change: 50 * time.Millisecond,
		sample: 250 * time.Millisecond, watch: 250 * time.Millisecond, bound: suite.Patience, // the short form does not judge how long an update takes
		aged: true,
	}
}

func TestSoak(t *testing.T) {
	f := newForm(t)
	ctx := t.Context()
	killed, alive := newTestNode(t, "killed", f, f.killed), newTestNode(t, "alive", f, f.alive)
	nodes := []*testNode{killed, alive}
	began, used := time.Now(), processTimes()

	kubelets, stop := context.WithCancel(ctx)
	defer stop()
	var pods sync.WaitGroup
	for _, s := range nodes {
		for _, slot := range s.slots {
			pods.Go(func() { slot.run(kubelets) })
		}
		pods.Go(func() { s.watch(kubelets) })
		pods.Go(func() { s.sample(kubelets) })
	}
	for _, s := range nodes {
		s.await(ctx)
	}

	// Faults, kills and changes begin after the first publishes, and end before the kubelets stop.
	rough, calm := context.WithTimeout(ctx, f.total)
	defer calm()
	var weather sync.WaitGroup
	for _, s := range nodes {
		weather.Go(func() { s.injectFaults(rough) })
		weather.Go(func() { s.changes(rough) })
	}
	weather.Go(func() { killed.kills(rough) })
	weather.Wait()

	var settling sync.WaitGroup
	for _, s := range nodes {
		settling.Go(func() { s.settle(ctx) })
	}
	settling.Wait()
	stop()
	pods.Wait()
	cpu := processTimes() - used
	for _, s := range nodes {
		s.finish(ctx)
	}
	report(t, f, nodes, time.Since(began), cpu)
}

// processTimes is the CPU time of this process and of the ended daemons.
func processTimes() (used time.Duration) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if unix.Getrusage(who, &u) == nil {
			used += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return used
}

// pause waits, and reports whether it was the whole time.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
