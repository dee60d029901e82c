package node

import (
	"errors"
	"maps"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/internal/aging"
	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
)

// New starts a node that is closed at the end of the test. If the test has failed it logs the end of the daemon's output.
func New(t testing.TB, o Options) *Node {
	t.Helper()
	n, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			const most = 16 << 10
			text := n.Output()
			t.Logf("the end of the daemon's output:\n%s", text[max(0, len(text)-most):])
		}
		n.Close()
	})
	return n
}

// Volume is the volume of a pod with the node's workload identity and its vault. Pairs are attributes and values; an empty value
// removes an attribute.
func Volume(name string, pairs ...string) kubelet.Volume {
	return With(kubelet.Volume{
		Name: name, Namespace: Namespace, ServiceAccount: ServiceAccount,
		Attributes: map[string]string{"vault": VaultURL, "clientID": WorkloadID},
	}, pairs...)
}

// With changes attributes of a volume, in the same form as [Volume].
func With(v kubelet.Volume, pairs ...string) kubelet.Volume {
	v.Attributes = maps.Clone(v.Attributes)
	for i := 0; i < len(pairs); i += 2 {
		v.Attributes[pairs[i]] = pairs[i+1]
		if pairs[i+1] == "" {
			delete(v.Attributes, pairs[i])
		}
	}
	return v
}

// MustPublish ends the test when the volume is not published or refreshed.
func (n *Node) MustPublish(t testing.TB, v kubelet.Volume) {
	t.Helper()
	if err := n.Publish(t.Context(), v); err != nil {
		t.Fatalf("publish %s: %v", v.Name, err)
	}
}

// MustUnpublish ends the test when the volume is not unpublished.
func (n *Node) MustUnpublish(t testing.TB, v kubelet.Volume) {
	t.Helper()
	if err := n.Unpublish(t.Context(), v); err != nil {
		t.Fatalf("unpublish %s: %v", v.Name, err)
	}
}

// Age makes a published volume look as if it had been fetched that long ago.
func (n *Node) Age(t testing.TB, v kubelet.Volume, by time.Duration) {
	t.Helper()
	// EBUSY: the test holds removed files of the volume open.
	if err := aging.Set(n.Target(v), time.Now().Add(-by)); err != nil && !errors.Is(err, unix.EBUSY) {
		t.Fatal(err)
	}
}

// MustMetric reads a metric of the daemon that has no labels.
func (n *Node) MustMetric(t testing.TB, name string) float64 {
	t.Helper()
	value, err := n.Metric(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// ReadFile is the content of a file, as a pod reads it.
func ReadFile(t testing.TB, path string) string {
	t.Helper()
	content, err := os.ReadFile(path) //nolint:gosec // G304: a file of a test
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
