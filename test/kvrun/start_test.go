// Package kvrun_test runs the program kvrun as a process, and sees what the program that it starts sees.
package kvrun_test

import (
	"bytes"
	"debug/buildinfo"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// maxSize is the promised size of the program.
const maxSize = 3_000_000

func TestSize(t *testing.T) {
	t.Parallel()
	if runtime.GOARCH != "amd64" {
		t.Skip("skipped because the promise is about linux/amd64")
	}
	binary, err := node.Binary(t.Context(), "kvrun")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > maxSize {
		t.Errorf("%s has %d bytes, at most %d are promised", binary, info.Size(), maxSize)
	}
	build, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if len(build.Deps) != 1 || build.Deps[0].Path != "golang.org/x/sys" {
		t.Errorf("%s links the modules %v, want golang.org/x/sys", binary, build.Deps)
	}
}

// TestBecomesTheProgram: without --on-change nothing of kvrun stays.
func TestBecomesTheProgram(t *testing.T) {
	t.Parallel()
	v := newVolume(t, map[string]string{"app.env": "A='1'\nB='from the volume'\nLINES='1\n2'\n"})
	plain := filepath.Join(t.TempDir(), "b.env")
	if err := os.WriteFile(plain, []byte("B='from the later file'\nOWN='replaced'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		flags []string
		want  string
	}{
		{"one file", []string{"--env-file", v.file("app.env")}, `A="1" B="from the volume" LINES="1\n2" OWN="own"`},
		{"later files win", []string{"--on-change=none", "--env-file", v.file("app.env"), "--env-file", plain},
			`A="1" B="from the later file" LINES="1\n2" OWN="replaced"`},
		{"earlier files lose", []string{"--env-file", plain, "--env-file", v.file("app.env")},
			`A="1" B="from the volume" LINES="1\n2" OWN="replaced"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, test.flags, "A", "B", "LINES", "OWN")
			pid, variables := p.started()
			if pid != p.Process.Pid || variables != test.want {
				t.Errorf("process %d has %s, want process %d with %s", pid, variables, p.Process.Pid, test.want)
			}
			p.send(unix.SIGHUP)
			p.want("SIGHUP")
			p.send(unix.SIGTERM)
			p.want("SIGTERM")
			p.wantExit(9)
		})
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	v := newVolume(t, map[string]string{"app.env": "A='1'\n", "broken.env": "A='1'\nB=hunter2\n"})
	good, broken, data := v.file("app.env"), v.file("broken.env"), v.file("..data/app.env")
	for _, test := range []struct {
		name string
		args []string
		code int
		want string // on standard error
	}{
		{"usage", nil, 125, "there is no --env-file; name at least one (kvrun --help)"},
		{"no file", []string{"--env-file", v.file("b.env"), "--", "x"}, 125, v.file("b.env") + ": no such file or directory"},
		{"broken file", []string{"--env-file", broken, "--", "x"}, 125, broken + ": line 2: the value is not in single quotes; write NAME='value'"},
		{"broken file, with --on-change", []string{"--on-change=restart", "--env-file", broken, "--", "x"}, 125,
			broken + ": line 2: the value is not in single quotes; write NAME='value'"},
		{"no volume", []string{"--on-change=restart", "--env-file", "/proc/version", "--", "x"}, 125,
			"/proc/version: no folder above it has a link ..data, so changes cannot be seen; mount the whole volume without subPath, or use --on-change=none"},
		{"no folder to install to", []string{"--install", v.file("no")}, 125, "install to " + v.file("no") + ": open"},
		{"not found", []string{"--env-file", good, "--", "kvrun-no-such-program"}, 127, "kvrun-no-such-program: executable file not found in $PATH"},
		{"not found, with --on-change", []string{"--on-change=restart", "--env-file", good, "--", "kvrun-no-such-program"}, 127,
			"kvrun-no-such-program: executable file not found in $PATH"},
		{"no such path", []string{"--env-file", good, "--", v.file("app")}, 127, v.file("app") + ": no such file or directory"},
		{"not executable", []string{"--env-file", good, "--", data}, 126, data + ": permission denied"},
		{"not executable, with --on-change", []string{"--on-change=exit:1", "--env-file", good, "--", data}, 126, data + ": permission denied"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := kvrun(t, test.args...)
			p.run()
			if got := p.next(p.stderr); !strings.HasPrefix(got, "kvrun: "+test.want) {
				t.Errorf("the message is\n%s, want\nkvrun: %s", got, test.want)
			}
			p.wantExit(test.code)
		})
	}
	for name, flags := range map[string][]string{
		"none": {"--env-file", good}, "restart": {"--env-file", good, "--on-change=restart"},
	} {
		t.Run("the program's own, "+name, func(t *testing.T) {
			t.Parallel()
			start(t, flags, "exit=0").wantExit(0)
			start(t, flags, "exit=77").wantExit(77)
			p := start(t, flags)
			pid, _ := p.started()
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			killed := 137
			if name == "none" {
				killed = -1 // os/exec's for the signal
			}
			p.wantExit(killed)
		})
	}
}

// TestPath: the PATH of a file decides where the program is found.
func TestPath(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(folder, "kvrun-test-app")); err != nil {
		t.Fatal(err)
	}
	v := newVolume(t, map[string]string{"app.env": "PATH='/nowhere:" + folder + "'\n"})
	p := kvrun(t, "--env-file", v.file("app.env"), "--", "kvrun-test-app", "PATH")
	p.run()
	if _, variables := p.started(); variables != `PATH="/nowhere:`+folder+`"` {
		t.Errorf("the program has %s", variables)
	}
}

func TestInstall(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	binary, err := node.Binary(t.Context(), "kvrun")
	if err != nil {
		t.Fatal(err)
	}
	original, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second replaces the first
		p := kvrun(t, "--install", folder)
		p.run()
		p.wantExit(0)
		entries, err := os.ReadDir(folder)
		if err != nil || len(entries) != 1 || entries[0].Name() != "kvrun" {
			t.Fatalf("the folder has %v, want kvrun; %v", entries, err)
		}
		copied, err := os.ReadFile(filepath.Join(folder, "kvrun"))
		if err != nil || !bytes.Equal(copied, original) {
			t.Errorf("the copy differs; %v", err)
		}
		if info, err := os.Stat(filepath.Join(folder, "kvrun")); err != nil || info.Mode() != 0o755 {
			t.Errorf("the mode is %v, want -rwxr-xr-x; %v", info.Mode(), err)
		}
	}
}

func TestVersionAndHelp(t *testing.T) {
	t.Parallel()
	for flag, want := range map[string]string{
		"--version": "kvrun ",
		"--help":    "kvrun starts a program with environment variables from files.",
	} {
		p := kvrun(t, flag)
		p.run()
		if got := p.line(); !strings.HasPrefix(got, want) {
			t.Errorf("%s prints %q, want %q", flag, got, want)
		}
	}
}
