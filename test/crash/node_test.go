package crash_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// After a reboot the folders of the targets and the old socket exist, and nothing is mounted.
func TestReboot(t *testing.T) {
	t.Parallel()
	before := newBaseline(t)
	n := node.New(t, node.Options{Env: []string{"TMPDIR=" + before.temporary}, Flags: []string{"--http-address="}})
	var pods []*pod
	for i := range 8 {
		p := newPod(n, fmt.Sprint("pod", i), 3, 100)
		publish(t, n, p)
		pods = append(pods, p)
	}
	if _, err := n.StopDaemon(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, p := range pods {
		unmount(t, n.Target(p.Volume))
		p.change(n)
	}
	if _, err := os.Lstat(n.Socket); err != nil {
		t.Fatal(err) // it would be no reboot
	}
	restart(t, n)
	for i, p := range pods {
		if i%2 == 0 { // the others were deleted meanwhile
			if err := stats(t, n, p); status.Code(err) != codes.NotFound {
				t.Errorf("a folder counts as a volume: %v", err)
			}
			publish(t, n, p)
		}
		unpublish(t, n, p)
	}
	quit(t, n)
	before.nothingLeft(t, n)
	logVerdict(t, "reboot: %d volumes, folders without mounts and a stale socket; published anew or removed, nothing left", len(pods))
}

// The next daemon starts after a daemon that was killed during its start.
func TestKilledWhileStarting(t *testing.T) {
	t.Parallel()
	kills := suite.Rounds(20, 300)
	dir, err := os.MkdirTemp("", "kvreg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	register := "--registration-socket=" + filepath.Join(dir, "reg.sock")
	before := newBaseline(t)
	n := node.New(t, node.Options{Env: []string{"TMPDIR=" + before.temporary}, Flags: []string{"--http-address=", register}})
	p := newPod(n, "pod", 3, 100)
	publish(t, n, p)
	if _, err := n.StopDaemon(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// Twice the time of a start on this machine, so that some kills are before and some after the daemon serves.
	begun := time.Now()
	restart(t, n)
	span := 2 * time.Since(begun)
	if _, err := n.StopDaemon(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	seed := seedOf(t)
	random, served := rand.New(rand.NewPCG(seed, 0)), 0
	for range kills {
		daemon := exec.CommandContext(t.Context(), n.Binary(), "--endpoint=unix://"+n.Socket, "--node-id=node-1", "--kubelet-root="+n.Root,
			"--http-address=", register)
		daemon.Env = append(os.Environ(), "TMPDIR="+before.temporary)
		var output strings.Builder
		daemon.Stderr = &output
		if err := daemon.Start(); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Duration(random.Int64N(int64(span)))) // not a wait for something
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
		if daemon.ProcessState.Exited() {
			t.Fatalf("ended by itself: %s", &output)
		}
		if strings.Contains(output.String(), "serving CSI") {
			served++
		}
	}
	if err := n.StartDaemon(t.Context()); err != nil {
		t.Fatal(err)
	}
	unpublish(t, n, p)
	quit(t, n)
	before.nothingLeft(t, n)
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("left in the registration folder: %v, %v", entries, err)
	}
	logVerdict(t, "kill -9 at the start: %d kills, %d of them before the daemon served; the next one starts, and nothing is left; seed %d", kills, kills-served, seed)
}

// After SIGTERM calls in flight end with a result, new calls are refused, and the daemon's exit code is 0.
func TestStopWithCallsInFlight(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{Flags: []string{"--mount-max-age=0"}})
	old, late := newPod(n, "old", 3, 100), newPod(n, "late", 3, 100)
	publish(t, n, old)
	n.Age(t, old.Volume, due)
	old.change(n)
	// One call ends with its own timeout, in the long form with the daemon's grace period of 20 s.
	never := newPod(n, "never", 3, 100)
	never.Attributes["timeout"], never.Attributes["vault"] = "4s", "https://never.vault.azure.net"
	if suite.Long() {
		never.Attributes["timeout"] = "110s"
	}
	if _, err := n.Cloud.AddVault("never", devcloud.VaultOptions{Tenant: node.Tenant}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Cloud.Inject(devcloud.Fault{Action: devcloud.Hang, Host: "never"}); err != nil {
		t.Fatal(err)
	}
	clear, err := n.Cloud.Inject(devcloud.Fault{Action: devcloud.Hang, Host: node.VaultName})
	if err != nil {
		t.Fatal(err)
	}
	asked := n.Cloud.Count(devcloud.CountKey{Service: devcloud.ServiceVault})
	pods := []*pod{old, never}
	for i := range 6 {
		pods = append(pods, newPod(n, fmt.Sprint("pod", i), 3, 100))
	}
	errs := make([]error, len(pods))
	var calls sync.WaitGroup
	for i, p := range pods {
		calls.Go(func() { errs[i] = n.Publish(t.Context(), p.Volume) })
	}
	vaultAsked(t, n, asked+len(pods))
	begin := time.Now()
	if err := unix.Kill(n.PID(), unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	suite.Eventually(t, "the daemon stops", func() bool { return strings.Contains(n.Output(), `"stopping"`) })
	suite.Eventually(t, "a new call is refused", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second) // a call just before the stop waits for the vault
		defer cancel()
		return status.Code(n.Publish(ctx, late.Volume)) == codes.Unavailable
	})
	clear()
	calls.Wait()
	quit(t, n)
	took := time.Since(begin)
	for i, p := range pods {
		f, err := p.look(n)
		switch {
		case err != nil:
			t.Error(err)
		case p == never && (errs[i] == nil || f.folder):
			t.Errorf("a call whose vault never answers: %v, found %+v", errs[i], f)
		case p != never && (errs[i] != nil || !f.complete || f.generation != p.now):
			t.Errorf("a call in flight: %v, found %+v", errs[i], f)
		}
	}
	if f, err := late.look(n); err != nil || f.folder {
		t.Errorf("a call that was refused: found %+v, %v", f, err)
	}
	logVerdict(t, "SIGTERM: %d calls in flight, %d finished, 1 answered %v; new calls refused; ended after %.1f s with exit code 0",
		len(pods), len(pods)-1, status.Code(errs[1]), took.Seconds())
}

// The kubelet's root becomes read-only, as after disk errors, and writable again.
func TestReadOnlyKubeletRoot(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{Flags: []string{"--mount-max-age=0"}})
	if err := unix.Mount(n.Root, n.Root, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	old, gone, fresh, again := newPod(n, "old", 3, 100), newPod(n, "gone", 3, 100), newPod(n, "fresh", 3, 100), newPod(n, "again", 3, 100)
	publish(t, n, old)
	publish(t, n, gone)
	makeFolder(t, filepath.Dir(n.Target(fresh.Volume)))
	makeFolder(t, n.Target(again.Volume))
	before := n.AtRest(t)
	setReadOnly(t, n.Root, true)

	fails(t, n.Publish(t.Context(), fresh.Volume), codes.Internal,
		"mount a volume at %q: make the folder of the target: read-only file system", n.Target(fresh.Volume))
	n.Age(t, old.Volume, due)
	old.change(n)
	publish(t, n, old)   // writes only into the volume
	publish(t, n, again) // its folder exists
	fails(t, callUnpublish(t.Context(), n, gone), codes.Internal, "remove target path %q: read-only file system", n.Target(gone.Volume))
	if f, err := gone.look(n); err != nil || f.mounts > 0 {
		t.Errorf("the mount is left: %+v, %v", f, err)
	}
	fails(t, callUnpublish(t.Context(), n, gone), codes.Internal, "remove target path %q: read-only file system", n.Target(gone.Volume))

	setReadOnly(t, n.Root, false)
	publish(t, n, fresh)
	for _, p := range []*pod{old, gone, fresh, again} {
		unpublish(t, n, p)
	}
	n.AwaitRest(t, before)
	logVerdict(t, "read-only kubelet root: Internal with the reason, rotations go on, and all works again without a restart")
}

func setReadOnly(t *testing.T, path string, yes bool) {
	t.Helper()
	attr := unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}
	if yes {
		attr = unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, path, 0, &attr); err != nil {
		t.Fatal(err)
	}
}
