package hostile_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// A target outside of the kubelet's root is refused by every call with a target.
func TestTargets(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	outside := filepath.Join(s.Dir, "outside")
	for _, folder := range []string{outside, filepath.Join(s.Root, "pods"), filepath.Join(s.Root, "real")} {
		if err := os.MkdirAll(folder, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	for link, leads := range map[string]string{
		"out": outside, "up": "../outside", "dots": "real/../../outside", "proc": "/proc/self/root", "self": "self", "in": "real",
		"real/mount": outside, "file/": "",
	} {
		if leads != "" {
			if err := os.Symlink(leads, filepath.Join(s.Root, link)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(s.Root, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	below := func(path string) string {
		return "target_path " + strconv.Quote(path) + " is not below the kubelet's root " + s.Root + "/ (--kubelet-root)"
	}
	leaves := func(path string) string {
		return "target path " + strconv.Quote(path) + " leaves the kubelet's root " + strconv.Quote(s.Root) + " by a symbolic link"
	}
	up := strings.Repeat("/..", strings.Count(s.Root, "/"))
	long := s.Root + "/" + strings.Repeat("x", 4096)
	for target, want := range map[string]struct {
		code codes.Code
		text string
	}{
		"/etc":                             {codes.InvalidArgument, below("/etc")},
		"/":                                {codes.InvalidArgument, below("/")},
		s.Root:                             {codes.InvalidArgument, below(s.Root)},
		s.Root + "/":                       {codes.InvalidArgument, below(s.Root)},
		s.Root + "/..":                     {codes.InvalidArgument, below(s.Dir)},
		s.Root + "/pods/../../outside":     {codes.InvalidArgument, below(outside)},
		s.Root + up + "/etc":               {codes.InvalidArgument, below("/etc")},
		s.Root + "x/mount":                 {codes.InvalidArgument, below(s.Root + "x/mount")},
		"kubelet/pods/mount":               {codes.InvalidArgument, `target_path "kubelet/pods/mount" is not an absolute path`},
		"":                                 {codes.InvalidArgument, "target_path is missing"},
		s.Root + "/pods/\x00/mount":        {codes.InvalidArgument, "target_path " + strconv.Quote(s.Root+"/pods/\x00/mount") + " holds a NUL, which no path does"},
		long:                               {codes.InvalidArgument, "target_path has " + strconv.Itoa(len(long)) + " bytes, more than the 4095 of a path"},
		s.Root + "/out/mount":              {codes.InvalidArgument, leaves(s.Root + "/out/mount")},
		s.Root + "/up/mount":               {codes.InvalidArgument, leaves(s.Root + "/up/mount")},
		s.Root + "/dots/mount":             {codes.InvalidArgument, leaves(s.Root + "/dots/mount")},
		s.Root + "/proc/etc":               {codes.InvalidArgument, leaves(s.Root + "/proc/etc")},
		s.Root + "/self/mount":             {codes.InvalidArgument, leaves(s.Root + "/self/mount")},
		s.Root + "/real/mount":             {codes.Internal, "target path " + strconv.Quote(s.Root+"/real/mount") + " is a symbolic link or a file, not a folder: this driver makes neither; remove it"},
		s.Root + "/file":                   {codes.Internal, "target path " + strconv.Quote(s.Root+"/file") + " is a symbolic link or a file, not a folder: this driver makes neither; remove it"},
		s.Root + "/file/mount":             {codes.Internal, "target path " + strconv.Quote(s.Root+"/file/mount") + " is a symbolic link or a file, not a folder: this driver makes neither; remove it"},
		s.Root + "/none/at/all/mount":      {codes.Internal, "mount a volume at *"},
		s.Root + "/pods/a\x1b[2J\nb/mount": {codes.Internal, "mount a volume at " + strconv.Quote(s.Root+"/pods/a\x1b[2J\nb/mount") + ": *"},
	} {
		t.Run(strconv.Quote(strings.TrimPrefix(target[:min(60, len(target))], s.Root)), func(t *testing.T) {
			ctx := suite.Context(t)
			request, err := s.Request(ctx, node.Volume("target", "objects", "- secret: good"))
			if err != nil {
				t.Fatal(err)
			}
			request.TargetPath = target
			_, err = s.Driver.NodePublishVolume(ctx, request)
			s.check(t, err, want.code, want.text)
			if want.code == codes.InvalidArgument {
				_, err = s.Driver.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: "x", TargetPath: target})
				if status.Code(err) != want.code || status.Convert(err).Message() != want.text {
					t.Errorf("unpublish: %v", err)
				}
			}
		})
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
		t.Errorf("outside of the kubelet's root there is %v (%v)", entries, err)
	}
	s.verdict(t, "targets")
}

// While volumes are published and unpublished, the folder of the target is swapped with a symbolic link out of the kubelet's root.
func TestSwappedFolders(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	rounds := suite.Rounds(200, 20_000)
	outside := filepath.Join(s.Dir, "outside")
	theirs := filepath.Join(outside, "mount") // the target, behind the link
	if err := os.MkdirAll(theirs, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("theirs", theirs, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	v := node.Volume("swapped", "objects", "- secret: good")
	parent := filepath.Dir(s.Target(v))
	link := parent + "-link"
	if err := os.MkdirAll(parent, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, link); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				stopped <- n
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, parent, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE)
			}
		}
	}()
	published := 0
	for range rounds {
		request, err := s.Request(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Driver.NodePublishVolume(t.Context(), request); err == nil {
			published++
		}
		_, _ = s.Driver.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: v.ID(), TargetPath: s.Target(v)})
		s.inputs += 2
	}
	close(stop)
	if swaps := <-stopped; swaps == 0 || published == 0 || published == rounds {
		t.Logf("%d swaps, %d of %d publishes worked", swaps, published, rounds)
	}
	if os.Remove(link) != nil { // the folder has this name now
		if err := os.Remove(parent); err != nil {
			t.Error(err)
		}
		if err := os.Rename(link, parent); err != nil {
			t.Fatal(err)
		}
	}
	all, err := kubelet.Mounts(outside)
	if err != nil || len(all) != 1 || all[0].Target != theirs || !strings.Contains(strings.Join(all[0].Super, " "), "size=64k") {
		t.Errorf("outside of the kubelet's root is mounted %v (%v)", all, err)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
		t.Errorf("outside of the kubelet's root there is %v (%v)", entries, err)
	}
	_ = unix.Unmount(theirs, unix.MNT_DETACH)
	for unix.Unmount(s.Target(v), unix.MNT_DETACH) == nil {
	}
	if err := os.RemoveAll(filepath.Join(s.Root, "pods")); err != nil {
		t.Error(err)
	}
	s.verdict(t, "a folder swapped for a link")
}
