package keyvault_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// BenchmarkCached is the fetch of a volume whose values other volumes of the node have read: no row may ask the vault.
func BenchmarkCached(b *testing.B) {
	for _, count := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("objects=%d", count), func(b *testing.B) {
			w := newFixture(b, maxAge(10*time.Second))
			objects := make([]volume.Object, count)
			for i := range objects {
				objects[i] = secret(fmt.Sprintf("secret-%d", i))
				w.vault.SetSecret(objects[i].Name, "value", devcloud.SecretOptions{})
			}
			r := w.asServicePrincipal(objects...)
			w.fetch(first("one", r))
			r = first("two", r)
			w.ResetCounts()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.client.Fetch(b.Context(), r); err != nil {
					b.Fatal(err)
				}
			}
			if n := w.gets(); n != 0 {
				b.Errorf("%d requests, want none", n)
			}
		})
	}
}
