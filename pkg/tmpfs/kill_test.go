package tmpfs_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// The test binary runs itself as a driver, with a role, a store and targets from the environment.
const (
	childRole = "TMPFS_TEST_ROLE"
	childRoot = "TMPFS_TEST_ROOT"
	childArgs = "TMPFS_TEST_ARGS"
)

func childCommand(ctx context.Context, role string, f fixture, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), childRole+"="+role, childRoot+"="+f.root, childArgs+"="+strings.Join(args, "\n"))
	cmd.Stderr = os.Stderr
	return cmd
}

func runChild(t *testing.T, role string, f fixture, args ...string) {
	t.Helper()
	if err := childCommand(t.Context(), role, f, args...).Run(); err != nil {
		t.Fatalf("child in the role %s: %v", role, err)
	}
}

func child(role string) {
	args := strings.Split(os.Getenv(childArgs), "\n")
	s, err := tmpfs.New(tmpfs.Options{KubeletRoot: os.Getenv(childRoot)})
	fatal(err)
	switch role {
	case "umask":
		unix.Umask(0o077)
		group := number(args[2])
		c := content("a/a", "0", "a/b", "1", "a/c", "2")
		c.Files[0].Mode, c.Files[2].Mode = 0o600, 0o666 // the first is left alone by the umask, the next are not
		for _, m := range []volume.Mount{{Target: args[0]}, {Target: args[1], Group: &group}} {
			_, err = s.Publish(context.Background(), m, c)
			fatal(err)
		}
	case "publish forever":
		fmt.Println("ready")
		for i := 0; ; i++ {
			_, err := s.Publish(context.Background(), volume.Mount{Target: args[0]}, numbered(i))
			fatal(err)
			if args[1] == "anew" {
				fatal(s.Unpublish(args[0]))
			}
		}
	}
}

func number(s string) uint32 {
	n, err := strconv.ParseUint(s, 10, 32)
	fatal(err)
	return uint32(n)
}

func fatal(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// numbered is a set in which each file contains the same number, and whose top-level names change with it.
func numbered(i int) volume.Content {
	n := strconv.Itoa(i)
	c := content("only-"+n, n)
	for j := range 10 {
		c.Files = append(c.Files, volume.File{Path: fmt.Sprintf("dir/file%d", j), Data: volume.NewSecret([]byte(n))})
	}
	c.Fetched = time.Now()
	return c
}

// checkNumbered reads a volume as a pod does, and checks that it is one whole set.
func checkNumbered(t *testing.T, target string) {
	t.Helper()
	set, err := os.Readlink(filepath.Join(target, "..data"))
	if err != nil {
		t.Fatal(err)
	}
	n := read(t, filepath.Join(target, set, "dir", "file0"))
	for j := range 10 {
		if got := read(t, filepath.Join(target, "dir", fmt.Sprint("file", j))); got != n {
			t.Errorf("file%d is of set %s, file0 of %s", j, got, n)
		}
	}
	if got := read(t, filepath.Join(target, "only-"+n)); got != n {
		t.Errorf("only-%s = %q", n, got)
	}
}

// A driver that is killed at any instant leaves no volume or a whole one, and the next process continues.
func TestKill(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"anew", "rotate"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, tmpfs.Options{Now: time.Now})
			mounted := 0
			for range 25 {
				killOnce(t, f, mode)
				state, err := f.Inspect(t.Context(), f.target) // Unverified, if the file system was writable in that instant
				switch {
				case err != nil:
					t.Fatal(err)
				case state.Published:
					mounted++
					checkNumbered(t, f.target)
				case mode == "rotate" && mounted > 0:
					t.Fatal("a rotation has removed the volume")
				case exists(f.target) && len(mounts(t, f.target)) > 0:
					t.Fatalf("a partial volume is mounted: %v", tree(t, f.target))
				}
				if mode == "rotate" || rand.IntN(2) == 0 { // both must work with what was left
					if _, err := f.Publish(t.Context(), f.mount(), numbered(-1)); err != nil {
						t.Fatalf("after a kill: %v", err)
					}
					if got := mounts(t, f.target); len(got) != 1 || !strings.Contains(got[0], "| ro,") {
						t.Fatalf("after a kill and the next call the file system is not read-only: %v", got)
					}
					checkNumbered(t, f.target)
					f.settle(t, 4, func() error { // set, ..data, dir and only--1
						_, err := f.Publish(t.Context(), f.mount(), numbered(-1))
						return err
					})
				}
				if mode == "anew" {
					if err := f.Unpublish(f.target); err != nil || exists(f.target) {
						t.Fatalf("Unpublish after a kill: %v, target left: %v", err, exists(f.target))
					}
				}
			}
			t.Logf("killed 25 times; a volume was mounted %d times", mounted)
		})
	}
}

func killOnce(t *testing.T, f fixture, mode string) {
	t.Helper()
	cmd := childCommand(t.Context(), "publish forever", f, f.target, mode)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatalf("the child did not start: %v", err)
	}
	// The instant of the kill varies.
	<-time.After(time.Duration(rand.Int64N(int64(4 * time.Millisecond))))
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // says that it was killed
	if cmd.ProcessState.Exited() {
		t.Fatalf("the child ended by itself: %v", cmd.ProcessState)
	}
}
