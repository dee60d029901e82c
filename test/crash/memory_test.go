package crash_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// The daemon near its memory limit, to which the content of a tmpfs is charged. A call that exceeds the limit fails, or the kernel
// kills the daemon. Every complete volume stays complete.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	before := newBaseline(t)
	group := newMemoryGroup(t)
	n := node.New(t, node.Options{Env: []string{"TMPDIR=" + before.temporary}, Flags: []string{"--http-address=", "--mount-max-age=0"}})
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
		if i%2 == 0 { // a swap needs memory for two sets
			p := pods[i%published]
			n.Age(t, p.Volume, stale)
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
			!f.complete && f.mounts > 0:
			t.Errorf("at the limit, after %v: %s of generation %d to %d is %+v", met, p.Name, p.floor, p.now, f)
		}
	}
	// With a higher limit all calls succeed, as soon as the daemon has read it: once a second while less than half is used.
	group.limit(t, 1<<30)
	if killed {
		restart(t, n)
		group.add(t, n.PID())
	}
	for _, p := range pods {
		if p.floor > 0 {
			n.Age(t, p.Volume, due)
		}
		var err error
		suite.Eventually(t, p.Name+" is published with the higher limit", func() bool {
			if err = n.Publish(t.Context(), p.Volume); err == nil {
				err = p.current(n)
			}
			return err == nil
		})
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
	logVerdict(t, "memory limit: met after %d volumes of 1 MB and %d swaps by %s; every volume whole, and all go on with more memory", published, swapped, how)
}

// ended reports whether the daemon was killed. A kill breaks the connection first.
func ended(t *testing.T, n *node.Node) (yes bool) {
	t.Helper()
	suite.Eventually(t, "the daemon answers, or has ended", func() bool {
		_, err := n.Identity.Probe(t.Context(), &csi.ProbeRequest{})
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.PID()))
		yes = len(stat) == 0
		return yes || err == nil
	})
	return yes
}

// memoryGroup is a memory cgroup that ends with the test, and is made before the node, so that a failed test ends the daemon first.
type memoryGroup struct{ node.MemoryGroup }

func newMemoryGroup(t *testing.T) memoryGroup {
	t.Helper()
	g, err := node.NewMemoryGroup()
	if err != nil {
		t.Skipf("needs a memory cgroup that it may divide: %v", err)
	}
	t.Cleanup(func() { g.RemoveWhenEmpty(t) })
	return memoryGroup{g}
}

func (g memoryGroup) add(t *testing.T, pid int) { g.must(t, g.Add(pid)) }

func (g memoryGroup) limit(t *testing.T, bytes int64) { g.must(t, g.Limit(bytes)) }

func (g memoryGroup) used(t *testing.T) int64 {
	t.Helper()
	used, err := g.Used()
	g.must(t, err)
	return used
}

func (memoryGroup) must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
