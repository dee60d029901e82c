package driver

import (
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
)

// BenchmarkCalls compares, through the socket, a republish that finds its set younger than its interval with the
// least that a call can cost.
func BenchmarkCalls(b *testing.B) {
	h := newHarness(b, newFakes())
	h.level = 0
	h.start(b)
	b.Cleanup(func() { _ = h.stop() })
	if err := h.publish(b); err != nil {
		b.Fatal(err)
	}
	ctx := b.Context()

	b.Run("Probe", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := h.identity.Probe(ctx, &csi.ProbeRequest{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Republish", func(b *testing.B) {
		b.ReportAllocs()
		r := h.request()
		for b.Loop() {
			if _, err := h.node.NodePublishVolume(ctx, r); err != nil {
				b.Fatal(err)
			}
		}
	})
}
