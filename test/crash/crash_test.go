// Package crash_test tests what a node survives: a daemon that is killed at any instant, and any state of the folder where a volume
// is to be mounted.
//
// It runs the daemon that users get, with its socket and real mounts. The daemon's promises:
//
//   - A target is not mounted, or it has one complete set: exactly the files of one generation of the vault.
//   - After a call that answers OK the target has such a set. A mount without a set does not count as published.
//   - The next call continues from any state, and after the last unpublish nothing is left.
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

// logVerdict logs the verdict of a suite that has not failed.
func logVerdict(t *testing.T, format string, args ...any) {
	t.Helper()
	if !t.Failed() {
		suite.Verdict(t, format, args...)
	}
}

func restart(t *testing.T, n *node.Node) {
	t.Helper()
	if err := n.StartDaemon(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// due is older than the rotation interval and young enough for a failed refresh to be tolerated.
const due = 3 * time.Minute

// stale is so old that a failed refresh is an error.
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
