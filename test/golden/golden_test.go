// Package golden_test compares the files of the driver with those of the init container of acs-keyvault-agent: names, bytes and modes, read
// from a real mount that the daemon makes for a call through its socket.
//
// testdata/recorded has runs of the unmodified init container, which are replayed. The other tests have its behaviour as tables, with the
// expected bytes as constants or from OpenSSL. A comment marks each intended difference.
package golden_test

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

func TestMain(m *testing.M) { os.Exit(mountns.Main(m)) }

// attributes are volume attributes.
type attributes map[string]string

// volume is a volume of a pod for this test, so that tests can share a node, with the node's identity.
func volume(t *testing.T, a attributes) kubelet.Volume {
	t.Helper()
	v := node.Volume(fmt.Sprintf("v%x", sha256.Sum256([]byte(t.Name())))[:16])
	maps.Copy(v.Attributes, a)
	return v
}

// files are the files of a volume by path.
type files map[string]string

// gives publishes a volume and compares all of it: the wanted files with mode 0644, and the predecessor's four folders with mode 0755.
func gives(t *testing.T, n *node.Node, a attributes, want files) {
	t.Helper()
	v := volume(t, a)
	if err := n.Publish(t.Context(), v); err != nil {
		t.Fatalf("publish: %v", err)
	}
	compare(t, n.Target(v), layout(want))
}

// refuses publishes a volume that must fail with this code and a text with this end, and leave nothing behind.
func refuses(t *testing.T, n *node.Node, a attributes, code codes.Code, ending string) {
	t.Helper()
	v := volume(t, a)
	err := n.Publish(t.Context(), v)
	if status.Code(err) != code || !strings.HasSuffix(status.Convert(err).Message(), ending) {
		t.Errorf("publish:\n got %s: %s\nwant %s: …%s", status.Code(err), status.Convert(err).Message(), code, ending)
	}
	if _, err := os.Lstat(n.Target(v)); err == nil {
		t.Error("a refused publish left its target behind")
	}
	mounts, err := kubelet.Mounts(n.PodDir(v))
	if err != nil || len(mounts) != 0 {
		t.Errorf("a refused publish left mounts behind: %v, %v", mounts, err)
	}
}

// entry is one file or folder.
type entry struct {
	Mode string // "0644"; a folder's ends with "/"
	Data string
}

func layout(of files) map[string]entry {
	tree := map[string]entry{}
	for _, folder := range []string{"secrets", "certs", "keys", "certs_keys"} {
		tree[folder] = entry{Mode: "0755/"}
	}
	for path, data := range of {
		tree[path] = entry{Mode: "0644", Data: data}
	}
	return tree
}

func compare(t *testing.T, root string, want map[string]entry) {
	t.Helper()
	if diff := cmp.Diff(want, tree(t, root)); diff != "" {
		t.Errorf("the volume differs (-want +got):\n%s", diff)
	}
}

// tree is the files of a folder as a container sees them, with symbolic links followed and without internal names, which begin with two dots.
func tree(t *testing.T, root string) map[string]entry {
	t.Helper()
	seen := map[string]entry{}
	var walk func(folder string)
	walk = func(folder string) {
		entries, err := os.ReadDir(filepath.Join(root, folder))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			path := filepath.Join(folder, e.Name())
			if folder == "" && strings.HasPrefix(path, "..") {
				continue
			}
			info, err := os.Stat(filepath.Join(root, path))
			if err != nil {
				t.Fatal(err)
			}
			if info.IsDir() {
				seen[path] = entry{Mode: octal(info) + "/"}
				walk(path)
				continue
			}
			if linked, err := os.Lstat(filepath.Join(root, path)); folder != "" && (err != nil || !linked.Mode().IsRegular()) {
				t.Errorf("%s is no regular file: %v, %v", path, linked.Mode(), err)
			}
			seen[path] = entry{Mode: octal(info), Data: node.ReadFile(t, filepath.Join(root, path))}
		}
	}
	walk("")
	return seen
}

func octal(info fs.FileInfo) string { return fmt.Sprintf("%#o", info.Mode().Perm()) }
