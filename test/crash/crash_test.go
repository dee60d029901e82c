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
	"os"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

func TestMain(m *testing.M) { os.Exit(mountns.Main(m)) }

// say gives the verdict of a suite that has not failed.
func say(t *testing.T, format string, args ...any) {
	t.Helper()
	if !t.Failed() {
		suite.Verdict(t, format, args...)
	}
}

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

// start gives a node whose daemon mounts this way, also after a restart.
func (w way) start(t *testing.T, o node.Options) *node.Node {
	t.Helper()
	o.Restrict = w.restrict
	return node.New(t, o)
}

// restrict forbids this thread, and what it starts, the system calls of the other way.
func (w way) restrict() error {
	if w.classic() {
		return forbid(w.forbidden)
	}
	return nil
}

func restart(t *testing.T, n *node.Node) {
	t.Helper()
	if err := n.StartDaemon(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// due is older than the rotation interval and young enough for a failed refresh to be tolerated.
const due = 3 * time.Minute

// stale is older than what is tolerated: now a failed refresh is an error.
const stale = time.Hour

func publish(t *testing.T, n *node.Node, p *pod) {
	t.Helper()
	n.MustPublish(t, p.Volume)
	if err := p.current(n); err != nil {
		t.Fatal(err)
	}
}

func unpublish(t *testing.T, n *node.Node, p *pod) {
	t.Helper()
	n.MustUnpublish(t, p.Volume)
	if err := p.gone(n); err != nil {
		t.Fatal(err)
	}
}

func setSecret(n *node.Node, name, value string) {
	n.Vault.SetSecret(name, value, devcloud.SecretOptions{})
}
