// Package soak_test lets many volumes come, rotate and go through the daemon for an hour, while vaults and logins fail,
// values change and the daemon is killed, and holds it to what it promises on a good day:
//
//   - a volume is there completely or not at all, also at the instant after a kill -9;
//   - no update is lost: two rotation intervals after the last fault every volume shows what its vaults hold;
//   - a volume never goes back to an older value, and is never older than it says;
//   - memory, descriptors, goroutines and mounts do not grow.
//
// There are two nodes, each with its own daemon process and its own dev cloud. The daemon of the first is killed every
// minute; that of the second never, so that what leaks slowly has the whole hour to show. The kubelets call every 8 to
// 12 s instead of every 60 to 90 s, and rotationInterval is its least, 30s, so that an hour has about a hundred
// rotations.
//
// In `make test` the same takes a quarter of a minute: volumes are made older than they are, see package aging.
package soak_test

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
)

func TestMain(m *testing.M) { os.Exit(mountns.Main(m)) }

// Environment variables of the long form. It is a target of its own (`make soak`), so that `make test-long` is done in minutes.
const (
	timeVariable   = "KEYVAULT_CSI_SOAK_TIME" // a Go duration; without it, the short form
	folderVariable = "KEYVAULT_CSI_SOAK_OUT"  // for the report and its plots; default: nowhere
)

// interval is the volumes' rotationInterval.
const interval = 30 * time.Second

// form is how long and how fast everything is.
type form struct {
	total         time.Duration
	killed, alive int           // volumes of the node whose daemon is killed, and of the other
	period        time.Duration // of the kubelet; a fifth more or less by chance
	life          time.Duration // of a volume; half of it to one and a half
	kill          time.Duration // between kills; three quarters to five quarters
	storm, calm   time.Duration // with faults and without, in turn
	change        time.Duration // between changes of a secret; of a certificate ten times as long
	sample, watch time.Duration // between looks at the process, and at all volumes
	bound         time.Duration // within which an update must be seen after the last fault: two intervals

	// aged makes volumes older before each call of the kubelet, so that each is a rotation. A failed vault is left alone
	// for up to half a minute, and only a kill ends that sooner: so the one daemon is killed after each storm, the other sees
	// delays alone.
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
		storm: 45 * time.Second, calm: 75 * time.Second, change: 250 * time.Millisecond,
		sample: 5 * time.Second, watch: 2 * time.Second, bound: 2 * interval,
	}
}

func short() form {
	return form{
		total: 9 * time.Second, killed: 32, alive: 12,
		period: time.Second, life: 4 * time.Second, kill: 3 * time.Second,
		storm: time.Second, calm: 2 * time.Second, change: 50 * time.Millisecond,
		sample: 250 * time.Millisecond, watch: 250 * time.Millisecond, bound: 30 * time.Second,
		aged: true,
	}
}

func TestSoak(t *testing.T) {
	f := newForm(t)
	ctx := t.Context()
	killed, alive := newSite(t, "killed", f, f.killed), newSite(t, "alive", f, f.alive)
	sites := []*site{killed, alive}
	began, used := time.Now(), processTimes()

	kubelets, stop := context.WithCancel(ctx)
	defer stop()
	var pods sync.WaitGroup
	for _, s := range sites {
		for _, slot := range s.slots {
			pods.Go(func() { slot.run(kubelets) })
		}
		pods.Go(func() { s.watch(kubelets) })
		pods.Go(func() { s.sample(kubelets) })
	}
	for _, s := range sites {
		s.await(ctx)
	}

	// What disturbs, and what changes, begins when the kubelets are at work, and ends before they do.
	rough, calm := context.WithTimeout(ctx, f.total)
	defer calm()
	var weather sync.WaitGroup
	for _, s := range sites {
		weather.Go(func() { s.storms(rough) })
		weather.Go(func() { s.changes(rough) })
	}
	weather.Go(func() { killed.kills(rough) })
	weather.Wait()

	var settling sync.WaitGroup
	for _, s := range sites {
		settling.Go(func() { s.settle(ctx) })
	}
	settling.Wait()
	stop()
	pods.Wait()
	cpu := processTimes() - used
	for _, s := range sites {
		s.finish(ctx)
	}
	report(t, f, sites, time.Since(began), cpu)
}

// processTimes is the processor time of this process and of the daemons that have ended.
func processTimes() (used time.Duration) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if unix.Getrusage(who, &u) == nil {
			used += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return used
}

// pause waits, and says whether it waited to the end.
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
