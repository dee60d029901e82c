package crash_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/keyvault-csi/keyvault-csi/internal/aging"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// A container that keeps files of removed sets open uses the space of the tmpfs, until there is too little for a swap. Then the
// previous set stays complete, and the pod's events have the reason.
func TestNoRoomForASwap(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		flags        []string
		copies, size int
		occupy       func(t *testing.T, volume string) (files []*os.File)
	}{
		"bytes":  {[]string{"--max-volume-bytes=512Ki", "--max-volume-files=32"}, 30, 15_000, occupyBytes},
		"inodes": {[]string{"--max-volume-files=8"}, 7, 100, occupyInodes},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := node.New(t, node.Options{Flags: append(test.flags, "--mount-max-age=0")})
			p := newPod(n, "pod", test.copies, test.size)
			publish(t, n, p)
			before := n.AtRest(t)
			var open []*os.File
			defer closeAll(&open)
			full := false
			for range 12 { // the daemon enlarges the volume up to a limit
				open = append(open, test.occupy(t, n.Target(p.Volume))...)
				n.Age(t, p.Volume, stale)
				p.change(n)
				if err := n.Publish(t.Context(), p.Volume); err != nil {
					text := fmt.Sprintf("rotate the volume at %q: no room is left in its tmpfs, though the content is within the limits: "+
						"containers still use too many old sets, by open files or subPath; restart them or raise --max-volume-bytes", n.Target(p.Volume))
					fails(t, err, codes.Unavailable, "%s", text)
					fullVolume(t, n, p, text)
					full = true
					break
				}
				if err := p.current(n); err != nil {
					t.Fatal(err)
				}
			}
			if !full {
				t.Error("the volume grows without end")
			}
			closeAll(&open)
			publish(t, n, p)
			n.AwaitRest(t, before)
			unpublish(t, n, p)
			logVerdict(t, "no %s left for a swap: the set before stays whole, Unavailable says why, and it swaps when there is room again", name)
		})
	}
}

// fullVolume checks a volume without space for a swap.
func fullVolume(t *testing.T, n *node.Node, p *pod, text string) {
	t.Helper()
	if f, err := p.look(n); err != nil || !f.complete || f.generation != p.floor || !f.tidy() {
		t.Errorf("found %+v, %v, want the set of generation %d", f, err, p.floor)
	}
	health, err := n.Driver.NodeGetVolumeHealth(t.Context(), &csi.NodeGetVolumeHealthRequest{VolumeId: p.ID(), VolumePublishPath: n.Target(p.Volume)})
	if err != nil || !strings.Contains(health.String(), "Stale") || len(health.GetVolumeHealth().GetHealthStatuses()) != 1 ||
		health.GetVolumeHealth().GetHealthStatuses()[0].GetMessage() != text {
		t.Errorf("the volume's health is %v, %v", health, err)
	}
	// While the set is young, the same failure is tolerated.
	n.Age(t, p.Volume, due)
	if err := n.Publish(t.Context(), p.Volume); err != nil {
		t.Errorf("a full volume that is not yet stale: %v", err)
	}
}

func closeAll(files *[]*os.File) {
	for _, f := range *files {
		_ = f.Close()
	}
	*files = nil
}

// unnamed makes an open file without a name in a volume, like a file of a removed set. A pod cannot write there, so the test uses a
// clone of the mount, as the daemon does.
func unnamed(volume string) (f *os.File, err error) {
	err = aging.Writable(volume, func(dir string) (err error) {
		path := filepath.Join(dir, "unnamed")
		if f, err = os.Create(path); err == nil {
			err = os.Remove(path)
		}
		return err
	})
	if f != nil && errors.Is(err, unix.EBUSY) { // expected, because a removed file is open
		err = nil
	}
	return f, err
}

// occupyBytes leaves too little space for one more set.
func occupyBytes(t *testing.T, volume string) []*os.File {
	t.Helper()
	f, err := unnamed(volume)
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(volume, &st); err != nil {
		t.Fatal(err)
	}
	if free := int64(st.Bavail)*int64(st.Bsize) - 64<<10; free > 0 { //nolint:unconvert // Bsize is an int32 on 32-bit architectures
		if _, err := f.Write(make([]byte, free)); err != nil {
			t.Fatal(err)
		}
	}
	return []*os.File{f}
}

// occupyInodes uses all inodes.
func occupyInodes(t *testing.T, volume string) (files []*os.File) {
	t.Helper()
	for {
		f, err := unnamed(volume)
		if f == nil {
			if !strings.Contains(err.Error(), unix.ENOSPC.Error()) {
				t.Fatal(err)
			}
			return files
		}
		files = append(files, f)
	}
}
