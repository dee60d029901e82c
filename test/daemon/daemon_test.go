// Package daemon_test tests the daemon as a process: the binary that users get, its flags, its socket, real mounts, and a Key Vault behind
// TLS with Azure's host names.
package daemon_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

func TestMain(m *testing.M) { os.Exit(mountns.Main(node.Networked{M: m})) }

// workload is a volume with the node's workload identity; pairs are attributes and values.
func workload(pairs ...string) kubelet.Volume { return node.Volume("secrets", pairs...) }

// refused publishes a volume that must fail with this code and text, and leave nothing behind.
func refused(t *testing.T, n *node.Node, v kubelet.Volume, code codes.Code, text string) {
	t.Helper()
	err := n.Publish(suite.Context(t), v)
	if status.Code(err) != code || status.Convert(err).Message() != text {
		t.Errorf("publish:\n got %s: %s\nwant %s: %s", status.Code(err), status.Convert(err).Message(), code, text)
	}
	if _, err := os.Lstat(n.Target(v)); err == nil {
		t.Error("a refused publish left its target behind")
	}
	if mounts := mounts(t, n); len(mounts) != 0 {
		t.Errorf("a refused publish left mounts behind: %v", mounts)
	}
}

func mounts(t *testing.T, n *node.Node) []kubelet.Mount {
	t.Helper()
	mounts, err := kubelet.Mounts(n.Dir)
	if err != nil {
		t.Fatal(err)
	}
	return mounts
}

// tree is the files of a volume as a container sees them, with symbolic links followed: "path mode content", folders without content.
func tree(t *testing.T, root string) []string {
	t.Helper()
	var lines []string
	var walk func(rel string)
	walk = func(rel string) {
		entries, err := os.ReadDir(filepath.Join(root, rel))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			path := filepath.Join(rel, e.Name())
			if strings.HasPrefix(e.Name(), "..") {
				continue // internal
			}
			info, err := os.Stat(filepath.Join(root, path))
			if err != nil {
				t.Fatal(err)
			}
			if info.IsDir() {
				lines = append(lines, path+"/ "+mode(info))
				walk(path)
				continue
			}
			lines = append(lines, path+" "+mode(info)+" "+node.ReadFile(t, filepath.Join(root, path)))
		}
	}
	walk("")
	slices.Sort(lines)
	return lines
}

func mode(info fs.FileInfo) string {
	bits := info.Mode().Perm().String()[1:]
	if info.Mode()&fs.ModeSetgid != 0 {
		bits += "+setgid"
	}
	return bits
}
