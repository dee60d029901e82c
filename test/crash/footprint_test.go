package crash_test

import (
	"testing"

	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// footprint is what the daemon holds while nobody wants anything of it. Idle connections to the cloud, which it would keep for
// minutes, and rightly so, are ended from the other side: they would hide a leak of as many descriptors.
func footprint(t *testing.T, n *node.Node) (f node.Footprint) {
	t.Helper()
	var last node.Footprint
	soon(t, "the daemon is at rest", func() bool {
		last, f = f, idle(t, n)
		return f.Goroutines == last.Goroutines && f.Descriptors == last.Descriptors
	})
	return f
}

func idle(t *testing.T, n *node.Node) node.Footprint {
	t.Helper()
	n.Cloud.Disconnect("")
	f, err := n.Footprint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// settles waits until the daemon holds no more than before.
func settles(t *testing.T, n *node.Node, before node.Footprint) {
	t.Helper()
	var after node.Footprint
	defer func() {
		if t.Failed() {
			t.Logf("before %+v\nafter  %+v", before, after)
		}
	}()
	soon(t, "the daemon holds no more than before", func() bool {
		after = idle(t, n)
		return after.Goroutines <= before.Goroutines && after.Descriptors <= before.Descriptors && after.Mounts <= before.Mounts
	})
}
