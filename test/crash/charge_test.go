package crash_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// The kernel never charges more for a volume than the driver counts. A file takes pages, an inode, a directory entry and a link, so
// the overhead is largest for many small files.
func TestWhatVolumesAreCharged(t *testing.T) {
	t.Parallel()
	const volumes = 3
	long := strings.Repeat("n", 200)
	for name, test := range map[string]struct {
		files, size int
		path        string
	}{
		"tiny files":                {4000, 1, "file%d"},
		"tiny files of long names":  {1000, 1, long + "%d"},
		"tiny files in folders":     {2000, 1, "folder%d/file"},
		"files of a page and a bit": {200, 5000, "file%d"},
		"a large file":              {1, 1_000_000, "file%d"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			group := newMemoryGroup(t)
			n := node.New(t, node.Options{})
			group.add(t, n.PID())
			setSecret(n, "value", strings.Repeat("x", test.size))
			var objects strings.Builder
			for i := range test.files {
				fmt.Fprintf(&objects, "- {secret: value, path: %s}\n", fmt.Sprintf(test.path, i))
			}
			before := group.kernel(t)
			for i := range volumes {
				n.MustPublish(t, node.Volume(fmt.Sprint("pod", i), "objects", objects.String()))
			}
			charged, counted := group.kernel(t)-before, int64(n.MustMetric(t, "keyvault_csi_volumes_bytes"))
			quit(t, n)
			// The process uses kernel memory too, such as page tables, which matters for small volumes.
			if charged > counted+1<<20 || counted > 2*charged {
				t.Errorf("the kernel charges %d bytes for %d volumes, and the driver counts %d", charged, volumes, counted)
			}
			logVerdict(t, "memory of %d volumes with %d files of %d bytes, %s: the kernel charges %.1f MiB, the driver counts %.1f",
				volumes, test.files, test.size, name, float64(charged)/(1<<20), float64(counted)/(1<<20))
		})
	}
}

// kernel is what the group is charged for files in memory and for kernel structures, without the memory of processes.
func (g memoryGroup) kernel(t *testing.T) (bytes int64) {
	t.Helper()
	stat, err := os.ReadFile(filepath.Join(g.Path, "memory.stat"))
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]int64{}
	for line := range strings.Lines(string(stat)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if fields[name], err = strconv.ParseInt(value, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	if kernel, err := os.ReadFile(filepath.Join(g.Path, "memory.kmem.usage_in_bytes")); err == nil { // v1
		n, err := strconv.ParseInt(strings.TrimSpace(string(kernel)), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return fields["shmem"] + n
	}
	return fields["shmem"] + fields["kernel"]
}
