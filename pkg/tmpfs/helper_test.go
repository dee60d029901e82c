package tmpfs_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/klog/v2"

	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/internal/suite"
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

// fixture is a store, and the target of one volume of one pod.
type fixture struct {
	*tmpfs.Store
	root, pod, target string
	now               *time.Time
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

// newTarget makes the folders that the kubelet makes: all but the target itself.
func (f fixture) newTarget(t testing.TB, volume string) string {
	t.Helper()
	target := filepath.Join(f.pod, "volumes", "kubernetes.io~csi", volume, "mount")
	mkdir(t, filepath.Dir(target))
	t.Cleanup(func() { detach(target) })
	return target
}

// Publish is that of the store, while no other test starts a process: it has copies of all descriptors until its exec, and so keeps files open.
func (f fixture) Publish(ctx context.Context, m volume.Mount, c volume.Content) (volume.Outcome, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return f.Store.Publish(ctx, m, c)
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

// settle calls publish again until the root of the volume has so many names. A call keeps a replaced set of which a file is open, and a
// process that another test starts has what is open in this process too, until it executes its program.
func (f fixture) settle(t *testing.T, names int, publish func() error) {
	t.Helper()
	suite.Eventually(t, "no other files are left in the volume", func() bool {
		entries, err := os.ReadDir(f.target)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == names {
			return true
		}
		if err := publish(); err != nil {
			t.Fatal(err)
		}
		return false
	})
}

// Refreshed is Inspect for a volume that no other process has changed.
func (f fixture) Refreshed(target string) (fetched time.Time, published bool, err error) {
	state, err := f.Inspect(context.Background(), target)
	if state.Unverified {
		err = errors.Join(err, errors.New("the volume is unverified"))
	}
	return state.Fetched, state.Published, err
}

// content makes files from pairs of path and data; a path with a slash at its end is a folder.
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

func wantError(t testing.TB, err, sentinel error, text string) {
	t.Helper()
	if err == nil || err.Error() != text {
		t.Errorf("error\n%v\nwant\n%s", err, text)
	}
	if sentinel != nil && !errors.Is(err, sentinel) {
		t.Errorf("error %v is not %v", err, sentinel)
	}
}
