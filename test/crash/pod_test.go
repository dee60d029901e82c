package crash_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// pod is a volume whose files all contain the generation of the vault. The name of one more file contains it too, so that each
// rotation also changes the names in the root of the volume.
type pod struct {
	kubelet.Volume

	copies int // files that hold the same secret, in several folders
	size   int // of each file, in bytes
	now    int // the vault's generation
	floor  int // the generation after the last call that answered OK; 0 = none
}

func newPod(n *node.Node, name string, copies, size int) *pod {
	p := &pod{copies: copies, size: size, Volume: node.Volume(name)}
	var objects strings.Builder
	for i := range copies {
		fmt.Fprintf(&objects, "- {secret: %s, path: %s}\n", name, copyPath(i))
	}
	fmt.Fprintf(&objects, "- secrets: {prefix: %s-generation-}\n", name)
	p.Attributes["objects"] = objects.String()
	p.change(n)
	return p
}

func copyPath(i int) string { return fmt.Sprintf("folder%d/file%d", i%3, i) }

// change brings the vault to the next generation.
func (p *pod) change(n *node.Node) {
	if p.now > 0 {
		_ = n.Vault.Delete(devcloud.Secrets, p.generationName(p.now))
	}
	p.now++
	setSecret(n, p.Name, p.value(p.now))
	setSecret(n, p.generationName(p.now), p.value(p.now))
}

func (p *pod) generationName(generation int) string {
	return fmt.Sprintf("%s-generation-%d", p.Name, generation)
}

// value begins with the generation.
func (p *pod) value(generation int) string {
	head := fmt.Sprintf("%d of %s ", generation, p.Name)
	return head + strings.Repeat(".", p.size-len(head))
}

// want is the files of a generation: contents by path.
func (p *pod) want(generation int) map[string]string {
	files := map[string]string{p.generationName(generation): p.value(generation)}
	for i := range p.copies {
		files[copyPath(i)] = p.value(generation)
	}
	return files
}

// finding is the state of a target.
type finding struct {
	folder     bool // the target's folder exists
	mounts     int
	complete   bool
	generation int // of a complete set

	// Leftovers of a kill that do not disturb a pod, and that the next call removes.
	oldSets  int // folders of other sets
	dangling int // links for names that are not in the set
	halfLink bool
}

func (f finding) tidy() bool { return f.oldSets == 0 && f.dangling == 0 && !f.halfLink }

// look reads the state of the pod's target. An error describes a state that must never occur.
func (p *pod) look(n *node.Node) (f finding, err error) {
	target := n.Target(p.Volume)
	mounts, err := kubelet.Mounts(target)
	if err != nil {
		return f, err
	}
	mounts = slices.DeleteFunc(mounts, func(m kubelet.Mount) bool { return m.Target != target })
	f.mounts = len(mounts)
	entries, err := os.ReadDir(target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return f, nil
	case err != nil:
		return f, err
	}
	f.folder = true
	switch {
	case f.mounts == 0 && len(entries) > 0:
		return f, fmt.Errorf("%s is no mount and holds %v", target, entries)
	case f.mounts == 0:
		return f, nil
	case f.mounts > 1:
		return f, fmt.Errorf("%d mounts at %s", f.mounts, target)
	}
	if o := strings.Join(mounts[0].Options, ","); !strings.HasPrefix(o, "ro,nosuid,nodev,noexec") {
		return f, fmt.Errorf("%s is mounted with %s", target, o)
	}
	current, err := os.Readlink(filepath.Join(target, "..data"))
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil // half made
	}
	if err != nil {
		return f, err
	}
	f.complete = true
	if f.generation, err = p.readSet(filepath.Join(target, current)); err != nil {
		return f, fmt.Errorf("%s: %w", target, err)
	}
	err = p.readTop(target, current, entries, &f)
	return f, err
}

// readSet checks that a set is complete, and returns its generation.
func (p *pod) readSet(folder string) (generation int, err error) {
	if folder, err = filepath.EvalSymlinks(folder); err != nil {
		return 0, err
	}
	found := map[string]string{}
	err = filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		found[strings.TrimPrefix(path, folder+"/")] = string(data)
		return err
	})
	if err != nil {
		return 0, err
	}
	number, _, _ := strings.Cut(found[copyPath(0)], " ")
	if generation, err = strconv.Atoi(number); err != nil {
		return 0, fmt.Errorf("the set of %d files has no generation", len(found))
	}
	if want := p.want(generation); !maps.Equal(found, want) {
		return 0, fmt.Errorf("the set is not that of generation %d:\n%s", generation, differences(found, want))
	}
	return generation, nil
}

func differences(found, want map[string]string) string {
	var lines []string
	for path := range want {
		if found[path] != want[path] {
			lines = append(lines, fmt.Sprintf("%s holds %.40q, want %.40q", path, found[path], want[path]))
		}
	}
	for path := range found {
		if _, known := want[path]; !known {
			lines = append(lines, path+" is not of the set")
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// readTop checks that the root of the volume has every top-level name of the set, and counts other entries in f.
func (p *pod) readTop(target, current string, entries []fs.DirEntry, f *finding) error {
	missing := map[string]bool{}
	for path := range p.want(f.generation) {
		first, _, _ := strings.Cut(path, "/")
		missing[first] = true
	}
	for _, e := range entries {
		name := e.Name()
		switch {
		case name == "..data", name == current:
		case name == "..data_tmp":
			f.halfLink = true
		case strings.HasPrefix(name, "..") && e.IsDir():
			f.oldSets++
		case missing[name]:
			if _, err := os.Stat(filepath.Join(target, name)); err != nil {
				return err
			}
			delete(missing, name)
		default:
			if _, err := os.Stat(filepath.Join(target, name)); !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s/%s is not of generation %d, and can be read (%w)", target, name, f.generation, err)
			}
			f.dangling++
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s shows no %v", target, slices.Collect(maps.Keys(missing)))
	}
	return nil
}

// current checks the state after a publish that answered OK: the vault's generation and nothing else.
func (p *pod) current(n *node.Node) error {
	f, err := p.look(n)
	switch {
	case err != nil:
		return fmt.Errorf("published %s: %w", p.Name, err)
	case !f.complete, f.generation != p.now, !f.tidy():
		return fmt.Errorf("published %s, generation %d: found %+v", p.Name, p.now, f)
	}
	p.floor = p.now
	return nil
}

// gone checks the state after an unpublish that answered OK.
func (p *pod) gone(n *node.Node) error {
	if f, err := p.look(n); err != nil || f.folder || f.mounts > 0 {
		return fmt.Errorf("unpublished %s: found %+v, %w", p.Name, f, err)
	}
	return nil
}

// baseline is the state before the daemon starts.
type baseline struct {
	temporary string // the daemon's folder for temporary files
	mounted   map[mountinfo.Info]bool
}

func newBaseline(t *testing.T) baseline {
	t.Helper()
	s := baseline{temporary: t.TempDir(), mounted: map[mountinfo.Info]bool{}}
	for _, entry := range mountTable(t) {
		s.mounted[*entry] = true
	}
	return s
}

func mountTable(t *testing.T) []*mountinfo.Info {
	t.Helper()
	entries, err := mountinfo.GetMounts(nil)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// nothingLeft checks a node whose volumes are unpublished and whose daemon has ended.
func (s baseline) nothingLeft(t *testing.T, n *node.Node) {
	t.Helper()
	others := filepath.Dir(n.Dir) + "/kvcsi" // tests that run in parallel
	for _, entry := range mountTable(t) {
		if strings.HasPrefix(entry.Mountpoint, n.Dir) || !s.mounted[*entry] && !strings.HasPrefix(entry.Mountpoint, others) {
			t.Errorf("left in the mount table: %+v", *entry)
		}
	}
	var left []string
	err := filepath.WalkDir(n.Dir, func(path string, _ fs.DirEntry, err error) error {
		left = append(left, strings.TrimPrefix(path, n.Dir))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// The node's folder, the CA certificate of its cloud, and the kubelet's folders.
	if want := []string{"", "/ca.pem", "/kubelet", "/kubelet/pods"}; !slices.Equal(left, want) {
		t.Errorf("left below %s: %v, want %v", n.Dir, left, want)
	}
	if entries, err := os.ReadDir(s.temporary); err != nil || len(entries) > 0 {
		t.Errorf("temporary files are left: %v, %v", entries, err)
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range processes {
		if line, _ := os.ReadFile(path); strings.Contains(string(line), n.Socket) {
			t.Errorf("a process is left: %s", strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
}

// quit ends the daemon as the kubelet does.
func quit(t *testing.T, n *node.Node) {
	t.Helper()
	state, err := n.StopDaemon(unix.SIGTERM)
	if err != nil || state.ExitCode() != 0 {
		t.Errorf("ended with %v, %v, want exit code 0", state, err)
	}
}

// vaultAsked waits for a number of requests to the vaults, counted from the start of the cloud.
func vaultAsked(t *testing.T, n *node.Node, times int) {
	t.Helper()
	if err := n.Cloud.Wait(suite.Context(t), devcloud.CountKey{Service: devcloud.ServiceVault}, times); err != nil {
		t.Fatal(err)
	}
}
