package tmpfs_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// FuzzTarget: among folders, files and symbolic links, the parent of a target is opened only if the kernel agrees that it lies in the root,
// nothing is made outside, and a link at the target is never followed.
func FuzzTarget(f *testing.F) {
	for _, seed := range []struct{ tree, target string }{
		{"d pods/u/volumes/x", "pods/u/volumes/x/mount"},
		{"l pods OUT", "pods/mount"},
		{"l pods OUT/a", "pods/../mount"},
		{"d real\nl pods real", "pods/mount"},
		{"d real\nl pods ROOT/real", "pods/mount"},
		{"d a\nl a/b ../../../../../../tmp", "a/b/mount"},
		{"d a\nl a/b ../../OUT", "a/b/mount"},
		{"d a\nl a/mount OUT", "a/mount"},
		{"f a", "a/mount"},
		{"l a a", "a/mount"},
		{"l a b\nl b a", "a/b/mount"},
		{"l a /proc/self/root", "a/mount"},
		{"l a /proc/self/cwd", "a/mount"},
		{"", "../x"}, {"", ""}, {"", "."}, {"d a", "a//./mount/"}, {"", "a/\x00/b"}, {"d a", "a/" + strings.Repeat("n", 300)},
		{"d ..data\nd \n", "..data/x"},
	} {
		f.Add(seed.tree, seed.target)
	}
	f.Fuzz(func(t *testing.T, script, target string) {
		dir, err := os.MkdirTemp("", "target")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		root, outside := filepath.Join(dir, "root"), filepath.Join(dir, "outside")
		mkdir(t, root)
		mkdir(t, filepath.Join(outside, "a"))
		buildTree(root, outside, script)
		before := strings.Join(tree(t, outside), "\n")

		s, err := tmpfs.New(tmpfs.Options{KubeletRoot: root})
		if err != nil {
			t.Fatal(err)
		}
		path := root + "/" + target
		parent, folder, err := s.MakeTarget(path)
		switch {
		case errors.Is(err, volume.ErrInvalid):
			if strings.ContainsAny(err.Error(), "\n\x00\x1b") {
				t.Errorf("%q is not one line", err)
			}
		case err != nil || parent == "": // an error, or no such folder
		default:
			resolved, err := filepath.EvalSymlinks(filepath.Dir(filepath.Clean(path)))
			if err != nil || resolved != parent || parent != root && !strings.HasPrefix(parent, root+"/") {
				t.Errorf("the folder of %q is %q (%v), and %q was opened", target, resolved, err, parent)
			}
		}
		if folder != "" && folder != filepath.Join(parent, filepath.Base(filepath.Clean(path))) {
			t.Errorf("%q led to %q in %q", target, folder, parent)
		}
		if after := strings.Join(tree(t, outside), "\n"); after != before {
			t.Errorf("outside of the root there was\n%s\nand now there is\n%s", before, after)
		}
	})
}

// buildTree makes what a script says, line by line: "d FOLDER", "f FILE", "l LINK LEADS-TO", where ROOT and OUT are the two
// folders of the test. It makes everything within the root.
func buildTree(root, outside, script string) {
	in, err := os.OpenRoot(root)
	if err != nil {
		return
	}
	defer func() { _ = in.Close() }()
	for i, line := range strings.Split(script, "\n") {
		kind, rest, _ := strings.Cut(line, " ")
		name, leads, _ := strings.Cut(rest, " ")
		switch {
		case i > 20:
			return
		case kind == "d":
			_ = in.MkdirAll(name, 0o750)
		case kind == "f":
			_ = in.WriteFile(name, nil, 0o600)
		case kind == "l":
			leads = strings.NewReplacer("ROOT", root, "OUT", outside).Replace(leads)
			_ = in.Symlink(leads, name)
		}
	}
}
