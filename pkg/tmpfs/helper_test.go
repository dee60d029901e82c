package tmpfs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/keyvault-csi/keyvault-csi/internal/aging"
	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

func TestMain(m *testing.M) {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	if role := os.Getenv(childRole); role != "" {
		child(role)
		return
	}
	os.Exit(mountns.Main(m))
}

var epoch = time.Date(2026, 11, 23, 2, 20, 11, 123456789, time.UTC)

// fixture is a store, and the place of one volume of one pod.
type fixture struct {
	*tmpfs.Store
	root, pod, target string
	now               *time.Time
}

// ways runs a test with the newer system calls and with mount(2).
func ways(t *testing.T, o tmpfs.Options, test func(t *testing.T, f fixture)) {
	t.Helper()
	for _, way := range []string{"detached", "classic"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, o)
			switch {
			case way == "classic":
				tmpfs.UseClassic(f.Store)
			case tmpfs.UsesClassic(f.Store):
				t.Skip("this kernel, or a seccomp filter, refuses the system calls of Linux 5.12")
			}
			test(t, f)
		})
	}
}

func newFixture(t testing.TB, o tmpfs.Options) fixture {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	now := epoch
	o.KubeletRoot = root
	if o.Now == nil {
		o.Now = func() time.Time { return now }
	}
	s, err := tmpfs.New(o)
	if err != nil {
		t.Fatal(err)
	}
	f := fixture{Store: s, root: root, pod: filepath.Join(root, "pods", "uid"), now: &now}
	f.target = f.newTarget(t, "secrets")
	return f
}

// newTarget makes the folders that the kubelet makes, which the target itself is not one of.
func (f fixture) newTarget(t testing.TB, volume string) string {
	t.Helper()
	target := filepath.Join(f.pod, "volumes", "kubernetes.io~csi", volume, "mount")
	mkdir(t, filepath.Dir(target))
	t.Cleanup(func() { detach(target) })
	return target
}

func (f fixture) mount() volume.Mount { return volume.Mount{Target: f.target} }

func (f fixture) publish(t testing.TB, c volume.Content) (changed bool) {
	t.Helper()
	o, err := f.Publish(t.Context(), f.mount(), c)
	if err != nil {
		t.Fatalf("Publish: %v", err)
	}
	if o.Tampered != "" || o.Writable != "" {
		t.Errorf("Publish: %+v", o)
	}
	return o.Changed
}

// Refreshed is Inspect for a volume that nobody else has touched.
func (f fixture) Refreshed(target string) (fetched time.Time, published bool, err error) {
	state, err := f.Inspect(context.Background(), target)
	if state.Unverified {
		err = errors.Join(err, errors.New("the volume is unverified"))
	}
	return state.Fetched, state.Published, err
}

// content makes files from pairs of path and data; a path that ends in a slash is a folder.
func content(pairs ...string) volume.Content {
	c := volume.Content{Fetched: epoch.Add(-time.Second)}
	for i := 0; i < len(pairs); i += 2 {
		if folder, ok := strings.CutSuffix(pairs[i], "/"); ok {
			c.Folders = append(c.Folders, folder)
			continue
		}
		c.Files = append(c.Files, volume.File{Path: pairs[i], Data: volume.NewSecret([]byte(pairs[i+1]))})
	}
	return c
}

// tree lists everything below dir: path, mode, and the target of a link or the content of a file. The name of a set's folder
// is written as SET, because it holds a time.
func tree(t testing.TB, dir string) []string {
	t.Helper()
	data, _ := os.Readlink(filepath.Join(dir, "..data"))
	hide := func(s string) string {
		if data == "" {
			return s
		}
		return strings.ReplaceAll(s, data, "SET")
	}
	var lines []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%v %s", info.Mode(), hide(rel))
		switch {
		case d.Type() == fs.ModeSymlink:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " -> " + hide(to)
		case d.Type().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %q", data)
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// mounts returns what is mounted at path: for each mount its options, then those of the file system.
func mounts(t testing.TB, path string) (options []string) {
	t.Helper()
	entries, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) { return i.Mountpoint != path, false })
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		options = append(options, e.Options+" | "+e.VFSOptions)
	}
	return options
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func mkdir(t testing.TB, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o750); err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path, data string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// mountTmpfs mounts a tmpfs that is not the driver's.
func mountTmpfs(t testing.TB, path string) {
	t.Helper()
	mkdir(t, path)
	if err := unix.Mount("foreign", path, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
}

// bind binds what, with links resolved, to where, which is made.
func bind(t testing.TB, what, where string) {
	t.Helper()
	info, err := os.Stat(what)
	if err != nil {
		t.Fatal(err)
	}
	if info.IsDir() {
		mkdir(t, where)
	} else {
		mkdir(t, filepath.Dir(where))
		write(t, where, "")
	}
	if err := unix.Mount(what, where, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { detach(where) })
}

func detach(path string) {
	for unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) == nil {
	}
}

// backDoor runs fn with a path through which the volume at target can be written to, as a driver that was killed had done.
func backDoor(t testing.TB, target string, fn func(dir string)) {
	t.Helper()
	err := aging.Writable(target, func(dir string) error {
		fn(dir)
		return nil
	})
	if errors.Is(err, unix.ENOSYS) {
		t.Skipf("a test's own back door into the volume: %v", err)
	}
	if err != nil && !errors.Is(err, unix.EBUSY) { // fn has left a removed file open, or one that can be written
		t.Fatal(err)
	}
}

// otherNamespace runs fn, when it is asked to, in a mount namespace that was made now: that of the node or of another container.
func otherNamespace(t testing.TB) (run func(fn func())) {
	t.Helper()
	work, done := make(chan func()), make(chan struct{})
	ready := make(chan error)
	onThread(func() {
		ready <- syscall.Unshare(syscall.CLONE_NEWNS)
		for fn := range work {
			fn()
			done <- struct{}{}
		}
	})
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(work) })
	return func(fn func()) {
		work <- fn
		<-done
	}
}

// onThread runs fn on a thread that ends with it, which the main thread, whose namespace is that of /proc/self, cannot.
func onThread(fn func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			fn()
			return
		}
		other := make(chan struct{})
		onThread(func() { close(other); fn() })
		<-other
		runtime.UnlockOSThread()
	}()
}

func wantError(t testing.TB, err, sentinel error, text string) {
	t.Helper()
	if err == nil || err.Error() != text {
		t.Errorf("error\n%v\nwant\n%s", err, text)
	}
	if sentinel != nil && !errors.Is(err, sentinel) {
		t.Errorf("error %v is not %v", err, sentinel)
	}
}
