package crash_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// The daemon near the limit of its memory: what a tmpfs holds is charged to it. A call that meets the limit fails, or the
// kernel kills the daemon, which is one more kill -9. No volume that was whole is anything else afterwards.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	ways(t, func(t *testing.T, w way) {
		before := newScene(t)
		n := w.start(t, node.Options{Env: []string{"TMPDIR=" + before.temporary}, Flags: []string{"--http-address=", "--mount-max-age=0"}})
		group := newMemoryGroup(t)
		group.add(t, n.PID())
		const files, size = 40, 25_000 // a set of 1 MB
		var pods []*pod
		for i := range 4 {
			p := newPod(n, fmt.Sprint("pod", i), files, size)
			publish(t, n, p)
			pods = append(pods, p)
		}
		group.limit(t, group.used(t)+6<<20)
		published, swapped, met := len(pods), 0, error(nil)
		for i := 0; met == nil && i < 100; i++ {
			if i%2 == 0 { // a swap of an old volume holds two sets for a while
				p := pods[i%published]
				age(t, n, p.Volume, stale)
				p.change(n)
				if met = n.Publish(t.Context(), p.Volume); met == nil {
					p.floor = p.now
					swapped++
				}
				continue
			}
			p := newPod(n, fmt.Sprint("pod", len(pods)), files, size)
			pods = append(pods, p)
			if met = n.Publish(t.Context(), p.Volume); met == nil {
				p.floor = p.now
				published++
			}
		}
		if met == nil {
			t.Fatalf("the limit was never met: %d volumes of 1 MB, %d bytes used", published, group.used(t))
		}
		killed := status.Code(met) == codes.Unavailable && ended(t, n)
		for _, p := range pods {
			f, err := p.look(n)
			switch {
			case err != nil:
				t.Error(err)
			case p.floor > 0 && (!f.complete || f.generation < p.floor || f.generation > p.now),
				!f.complete && f.mounts > 0 && !(w.classic() && killed):
				t.Errorf("at the limit, after %v: %s of generation %d to %d is %+v", met, p.Name, p.floor, p.now, f)
			}
		}
		// The operator gives it more.
		group.limit(t, 1<<30)
		if killed {
			w.restart(t, n)
			group.add(t, n.PID())
		}
		for _, p := range pods {
			if p.floor > 0 {
				age(t, n, p.Volume, due)
			}
			publish(t, n, p)
		}
		for _, p := range pods {
			unpublish(t, n, p)
		}
		quit(t, n)
		before.nothingLeft(t, n)
		how := "an error, " + status.Code(met).String()
		if killed {
			how = "a kill by the kernel"
		}
		say(t, "memory limit (%s): met after %d volumes of 1 MB and %d swaps by %s; every volume whole, and all go on with more memory", w.name, published, swapped, how)
	})
}

// ended says whether the daemon has been killed. A kill breaks the connection first.
func ended(t *testing.T, n *node.Node) (yes bool) {
	t.Helper()
	soon(t, "the daemon answers, or has ended", func() bool {
		_, err := n.Identity.Probe(t.Context(), &csi.ProbeRequest{})
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.PID()))
		yes = len(stat) == 0
		return yes || err == nil
	})
	return yes
}

// memoryGroup is a memory cgroup below that of this process, of either hierarchy.
type memoryGroup struct {
	path, limitFile, usedFile string
}

func newMemoryGroup(t *testing.T) memoryGroup {
	t.Helper()
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Skipf("needs cgroups: %v", err)
	}
	why := errors.New("no memory controller is mounted in /sys/fs/cgroup")
	for line := range strings.Lines(string(own)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		root, g := "/sys/fs/cgroup", memoryGroup{limitFile: "memory.max", usedFile: "memory.current"}
		switch {
		case fields[1] == "memory":
			root, g = "/sys/fs/cgroup/memory", memoryGroup{limitFile: "memory.limit_in_bytes", usedFile: "memory.usage_in_bytes"}
		case fields[0] != "0":
			continue
		}
		// In a container the path may be that of the host, and only the root of the container's own be there.
		for _, parent := range []string{filepath.Join(root, fields[2]), root} {
			if g.path, err = os.MkdirTemp(parent, "keyvault-csi-test-"); err != nil {
				why = err
				continue
			}
			if _, err := os.Stat(filepath.Join(g.path, g.limitFile)); err != nil {
				why = err
				_ = os.Remove(g.path)
				continue
			}
			t.Cleanup(func() {
				soon(t, "the cgroup is empty", func() bool { return os.Remove(g.path) == nil })
			})
			return g
		}
	}
	t.Skipf("needs a memory cgroup that it may divide: %v", why)
	return memoryGroup{}
}

func (g memoryGroup) add(t *testing.T, pid int) { g.write(t, "cgroup.procs", int64(pid)) }

func (g memoryGroup) limit(t *testing.T, bytes int64) { g.write(t, g.limitFile, bytes) }

func (g memoryGroup) write(t *testing.T, file string, value int64) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(g.path, file), []byte(strconv.FormatInt(value, 10)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (g memoryGroup) used(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(g.path, g.usedFile))
	if err != nil {
		t.Fatal(err)
	}
	used, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return used
}
