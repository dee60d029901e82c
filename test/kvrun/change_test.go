package kvrun_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
)

func TestSignalOnChange(t *testing.T) {
	t.Parallel()
	v := newVolume(t, map[string]string{"app.env": "A='1'\n", "tls/web.crt": "one"})
	p := start(t, []string{"--env-file", v.file("app.env"), "--on-change=signal:USR1"}, "A")
	pid, _ := p.started()
	for _, content := range []map[string]string{
		{"app.env": "A='2'\n", "tls/web.crt": "one"},
		{"app.env": "A='2'\n", "tls/web.crt": "two"}, // any file of the volume counts
	} {
		v.replace(t, content)
		p.want("SIGUSR1")
		p.wantMessage("the files have changed; the command gets SIGUSR1")
	}
	if err := unix.Kill(pid, 0); err != nil {
		t.Errorf("the program is gone: %v", err)
	}
	p.send(unix.SIGTERM)
	p.want("SIGTERM")
	p.wantExit(9)
}

// TestRestartOnChange: new variables, nothing left of the program before.
func TestRestartOnChange(t *testing.T) {
	t.Parallel()
	v := newVolume(t, map[string]string{"deep/app.env": "A='1'\nB='old'\n"})
	other := newVolume(t, map[string]string{"b.env": "C='1'\n"})
	p := start(t, []string{"--env-file", v.file("deep/app.env"), "--env-file", other.file("b.env"), "--on-change=restart"}, "A", "B", "C", "OWN", "orphan")
	var orphan int
	fmt.Sscanf(p.line(), "orphan %d", &orphan)
	before, variables := p.started()
	if want := `A="1" B="old" C="1" OWN="own"`; variables != want {
		t.Fatalf("the program has %s, want %s", variables, want)
	}
	v.replace(t, map[string]string{"deep/app.env": "A='2'\n"})
	p.want("SIGTERM")
	p.line() // the next orphan
	after, variables := p.started()
	if want := `A="2" B="" C="1" OWN="own"`; variables != want || before == after {
		t.Fatalf("the program has %s, want %s", variables, want)
	}
	suite.Eventually(t, "what the first program has left is gone", func() bool { return unix.Kill(orphan, 0) != nil })
	other.replace(t, map[string]string{"b.env": "C='2'\n"})
	p.want("SIGTERM")
	p.line()
	if _, variables = p.started(); variables != `A="2" B="" C="2" OWN="own"` {
		t.Fatalf("the program has %s", variables)
	}
	_ = p.stdin.Close() // ends the orphan, which holds standard output
	p.send(unix.SIGTERM)
	p.want("SIGTERM")
	p.wantExit(9)
}

func TestExitOnChange(t *testing.T) {
	t.Parallel()
	for name, run := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVolume(t, map[string]string{"app.env": "A='1'\n"})
			p := run(t, []string{"--env-file", v.file("app.env"), "--on-change=exit:42"})
			p.started()
			v.replace(t, map[string]string{"app.env": "A='2'\n"})
			p.want("SIGTERM")
			p.wantExit(42)
		})
	}
}

// TestBrokenFile: the program stays, also while the file is gone, and the next good file counts.
func TestBrokenFile(t *testing.T) {
	t.Parallel()
	v := newVolume(t, map[string]string{"app.env": "A='1'\n"})
	p := start(t, []string{"--env-file", v.file("app.env"), "--on-change=restart"}, "A")
	p.started()
	v.replace(t, map[string]string{"app.env": "A='2'\nhunter2\n"})
	p.wantMessage(v.file("app.env") + ": line 2: there is no '='; write NAME='value', or put a '#' before a comment; " +
		"the command keeps the values that it has")
	v.replace(t, map[string]string{"other.env": ""})
	p.wantMessage(v.file("app.env") + ": no such file or directory; the command keeps the values that it has")
	v.replace(t, map[string]string{"app.env": "A='3'\n"})
	p.want("SIGTERM")
	if _, variables := p.started(); variables != `A="3"` {
		t.Errorf("the program has %s", variables)
	}
}

// TestManyChanges: replacements in a row cause fewer restarts, each with one set, and the last one with the last set.
func TestManyChanges(t *testing.T) {
	t.Parallel()
	content := func(i int) map[string]string {
		return map[string]string{"a.env": fmt.Sprintf("A='%d'\n", i), "b.env": fmt.Sprintf("B='%d'\n", i)}
	}
	v := newVolume(t, content(0))
	p := start(t, []string{"--env-file", v.file("a.env"), "--env-file", v.file("b.env"), "--on-change=restart"}, "A", "B")
	p.started()
	last := suite.Rounds(200, 5000)
	for i := 1; i <= last; i++ {
		v.replace(t, content(i))
	}
	restarts := 0
	for variables := ""; variables != fmt.Sprintf(`A="%d" B="%d"`, last, last); {
		p.want("SIGTERM")
		_, variables = p.started()
		restarts++
		if a, b, _ := strings.Cut(variables, " "); strings.TrimPrefix(a, "A=") != strings.TrimPrefix(b, "B=") {
			t.Fatalf("the program has the torn variables %s", variables)
		}
	}
	if restarts >= last {
		t.Errorf("%d restarts for %d changes", restarts, last)
	}
	suite.Verdict(t, "kvrun: %d changes in a row, %d restarts, none with a torn environment", last, restarts)
}

// mount mounts and unmounts at the end of the test, if it is still mounted.
func mount(t *testing.T, source, target, kind string, flags uintptr) {
	t.Helper()
	if err := unix.Mount(source, target, kind, flags, ""); err != nil {
		t.Fatalf("mount %s: %v", target, err)
	}
	t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
}

// TestReadOnlyMount: a container sees the volume through a read-only mount, while the driver writes through its own.
func TestReadOnlyMount(t *testing.T) {
	t.Parallel()
	v, inside := newVolume(t, map[string]string{"app.env": "A='1'\n"}), t.TempDir()
	mount(t, v.folder, inside, "", unix.MS_BIND)
	if err := unix.Mount("", inside, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	p := start(t, []string{"--env-file", filepath.Join(inside, "app.env"), "--on-change=restart"}, "A")
	p.started()
	if err := os.WriteFile(filepath.Join(inside, "x"), nil, 0o600); err == nil {
		t.Fatal("the mount is not read-only")
	}
	v.replace(t, map[string]string{"app.env": "A='2'\n"})
	p.want("SIGTERM")
	if _, variables := p.started(); variables != `A="2"` {
		t.Errorf("the program has %s", variables)
	}
}

// TestUnmounted: the program stays when a volume is gone, and the other volume still counts.
func TestUnmounted(t *testing.T) {
	t.Parallel()
	gone := &volume{folder: t.TempDir()}
	mount(t, "tmpfs", gone.folder, "tmpfs", 0)
	gone.replace(t, map[string]string{"b.env": "B='1'\n"})
	p := start(t, []string{"--env-file", gone.file("b.env"), "--on-change=signal:HUP"}, "B")
	pid, _ := p.started()
	if err := unix.Unmount(gone.folder, 0); err != nil {
		t.Fatal(err)
	}
	p.wantMessage(gone.folder + " is no longer watched: it was unmounted or removed")
	if err := unix.Kill(pid, unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	p.want("SIGUSR1")
	p.send(unix.SIGTERM)
	p.want("SIGTERM")
	p.wantExit(9)
}
