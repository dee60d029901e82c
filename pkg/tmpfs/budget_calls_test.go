package tmpfs_test

import (
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// What the kernel counts is read before the call has its turn. When another call has ended meanwhile, it is read again.
func TestBudgetOfACallThatEndsMeanwhile(t *testing.T) {
	t.Parallel()
	const before, after = 36 * mib, 30 * mib // of 40, which leave no room and room
	var meanwhile func()
	f := newFixture(t, tmpfs.Options{Memory: func() tmpfs.Memory {
		used := int64(after)
		if ends := meanwhile; ends != nil {
			meanwhile, used = nil, before
			ends()
		}
		return tmpfs.Memory{Limits: []tmpfs.Limit{{Bytes: 40 * mib, Used: used}}, Process: 5 * mib, Resident: mib}
	}})
	f.publish(t, big(0))
	other := f.newTarget(t, "other")
	if _, err := f.Publish(t.Context(), volume.Mount{Target: other}, big(0)); err != nil {
		t.Fatal(err)
	}
	for what, rotation := range map[string]volume.Content{"of the same size": big(1), "larger": content("big", strings.Repeat("x", mib))} {
		meanwhile = func() {
			meanwhile = func() {
				if err := f.rotate(t.Context(), other, content("big", what)); err != nil {
					t.Error(err)
				}
			}
		}
		if err := f.rotate(t.Context(), f.target, rotation); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}
