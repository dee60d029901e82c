// Package crash_test proves what a node survives: the daemon killed at any instant, and everything that can stand or
// happen where a volume is to be mounted.
//
// It stands at the front door, with the daemon that users get, its socket and real mounts. What the daemon must keep to,
// whatever happens to it:
//
//   - A target is not mounted, or it holds one complete set: all files of one generation of the vault, none missing, none
//     too many. (With mount(2) alone, on kernels before 5.12, a kill may also leave a mount that holds no set yet.)
//   - A call that answers OK has left such a set. A mount that holds none does not count as published, whoever made it.
//   - The next call goes on from whatever was left, and after the last unpublish nothing is left.
package crash_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/internal/aging"
	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

func TestMain(m *testing.M) { os.Exit(mountns.Main(m)) }

// start gives a node that ends with the test.
func start(t *testing.T, o node.Options) *node.Node {
	t.Helper()
	n, err := node.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the daemon wrote at last:\n%s", tail(n.Output()))
		}
		n.Close()
	})
	return n
}

// say gives the verdict of a suite that has not failed.
func say(t *testing.T, format string, args ...any) {
	t.Helper()
	if !t.Failed() {
		suite.Verdict(t, format, args...)
	}
}

// tail is the end of a text that may be very long.
func tail(text string) string { return text[max(0, len(text)-8<<10):] }

// ways runs a test with the mount calls of Linux 5.12, and with mount(2) alone.
func ways(t *testing.T, test func(t *testing.T, w way)) {
	t.Helper()
	for _, w := range []way{{name: "detached"}, {name: "classic", forbidden: newMountCalls}} {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			test(t, w)
		})
	}
}

// way is how the daemon mounts.
type way struct {
	name      string
	forbidden []uint32 // system calls that it is refused, as on a kernel that does not know them
}

func (w way) classic() bool { return w.forbidden != nil }

// start gives a node whose daemon mounts this way.
func (w way) start(t *testing.T, o node.Options) (n *node.Node) {
	t.Helper()
	onThread(t, func() error {
		if w.classic() {
			if err := forbid(w.forbidden); err != nil {
				return err
			}
		}
		n = start(t, o)
		return nil
	})
	if n == nil {
		t.FailNow() // start has said why
	}
	return n
}

// restart starts the daemon of a node again.
func (w way) restart(t *testing.T, n *node.Node) {
	t.Helper()
	onThread(t, func() error {
		if w.classic() {
			if err := forbid(w.forbidden); err != nil {
				return err
			}
		}
		return n.StartDaemon(t.Context())
	})
}

// age lets time pass for a volume, so that its next publish asks the vault again.
func age(t *testing.T, n *node.Node, v kubelet.Volume, by time.Duration) {
	t.Helper()
	if err := aging.Set(n.Target(v), time.Now().Add(-by)); err != nil && !errors.Is(err, unix.EBUSY) { // a test may hold removed files open
		t.Fatal(err)
	}
}

// due is older than the rotation interval and young enough for a failed refresh to be tolerated.
const due = 3 * time.Minute

// stale is older than what is tolerated: now a failed refresh is an error.
const stale = time.Hour

func publish(t *testing.T, n *node.Node, p *pod) {
	t.Helper()
	if err := n.Publish(t.Context(), p.Volume); err != nil {
		t.Fatalf("publish %s: %v", p.Name, err)
	}
	if err := p.current(n); err != nil {
		t.Fatal(err)
	}
}

func unpublish(t *testing.T, n *node.Node, p *pod) {
	t.Helper()
	if err := n.Unpublish(t.Context(), p.Volume); err != nil {
		t.Fatalf("unpublish %s: %v", p.Name, err)
	}
	if err := p.gone(n); err != nil {
		t.Fatal(err)
	}
}

func setSecret(n *node.Node, name, value string) {
	n.Vault.SetSecret(name, value, devcloud.SecretOptions{})
}
