package tmpfs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// The count of the kernel is read before memory is claimed. If another call has ended meanwhile, it is read again.
func TestBudgetOfACallThatEndsMeanwhile(t *testing.T) {
	t.Parallel()
	const before, after = 36 * mib, 30 * mib // of 40, which are too much and not too much
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
				// Not fixture.Publish, whose lock is held already.
				if _, err := f.Store.Publish(t.Context(), volume.Mount{Target: other}, content("big", what)); err != nil {
					t.Error(err)
				}
			}
		}
		if err := f.rotate(t.Context(), f.target, rotation); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A volume whose refresh waits for memory is read-only meanwhile. Leftovers are removed before memory is claimed: it may be what is missing.
func TestBudgetWaitsWithAReadOnlyVolume(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(t *testing.T, root string){
		"a new set": func(*testing.T, string) {},
		"what a killed rotation has left": func(t *testing.T, root string) {
			mkdir(t, filepath.Join(root, "..2001_01_01_00_00_00.000000001"))
			write(t, filepath.Join(root, "..2001_01_01_00_00_00.000000001", "big"), strings.Repeat("x", mib))
		},
		"what a container has written beside the set": func(t *testing.T, root string) { write(t, filepath.Join(root, "junk"), strings.Repeat("x", mib)) },
		"what a container has written into the set": func(t *testing.T, root string) {
			write(t, filepath.Join(root, "..data", "junk"), strings.Repeat("x", mib/4))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refreshing := ""
			f := newFixture(t, tmpfs.Options{Memory: func() tmpfs.Memory {
				m := tmpfs.Memory{Limits: []tmpfs.Limit{{Bytes: 15*mib + mib/2, Used: 10 * mib}}, Process: 5 * mib, Resident: mib}
				if refreshing != "" {
					m.Limits[0].Used += used(t, refreshing)
					for _, options := range mounts(t, refreshing) {
						if !strings.Contains(options, " | ro") {
							t.Errorf("memory is asked for while the volume is %s", options)
						}
					}
				}
				return m
			}})
			f.publish(t, big(0))
			writeBehind(t, f.target, func(root string) { change(t, root) })
			refreshing = f.target
			if err := f.rotate(t.Context(), f.target, big(1)); err != nil {
				t.Error(err)
			}
			f.settle(t, 3, func() error { return f.rotate(t.Context(), f.target, big(1)) }) // ..data, its set, and the link
		})
	}
}

func used(t *testing.T, target string) int64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(target, &st); err != nil {
		t.Error(err)
	}
	return int64(st.Blocks-st.Bfree) * int64(st.Bsize) //nolint:unconvert // Bsize is an int32 on 32-bit architectures
}

// A volume that could not be made read-only is reported, also if there is no memory for its refresh.
func TestNoBudgetForAWritableVolume(t *testing.T) {
	t.Parallel()
	f := newFixture(t, limited(10*mib+mib/2))
	f.publish(t, content("big", "x"))
	var open *os.File
	writeBehind(t, f.target, func(root string) {
		var err error
		if open, err = os.OpenFile(filepath.Join(root, "big"), os.O_RDWR, 0); err != nil {
			t.Fatal(err)
		}
	})
	defer open.Close()
	same := content("big", "x")
	same.Fetched = same.Fetched.Add(time.Second)
	if o, err := f.Publish(t.Context(), f.mount(), same); err != nil || o.Writable == "" {
		t.Fatalf("the volume cannot be made read-only: %+v, %v", o, err)
	}
	o, err := f.Publish(t.Context(), f.mount(), big(0))
	wantError(t, err, volume.ErrTooLarge, noMemory(f.target, "rotate the volume at", "1", "11", "10"))
	if o.Writable == "" {
		t.Error("the volume is writable, which is not reported")
	}
}
