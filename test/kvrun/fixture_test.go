package kvrun_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// volume is a folder with the layout of a volume of the driver or the kubelet.
type volume struct {
	folder string
	sets   int
}

func newVolume(t *testing.T, files map[string]string) *volume {
	t.Helper()
	v := &volume{folder: t.TempDir()}
	v.replace(t, files)
	return v
}

// replace makes the files the volume's set.
func (v *volume) replace(t *testing.T, files map[string]string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	v.sets++
	set := "..set" + strconv.Itoa(v.sets)
	for name, text := range files {
		path := filepath.Join(v.folder, set, name)
		must(os.MkdirAll(filepath.Dir(path), 0o755))
		must(os.WriteFile(path, []byte(text), 0o600))
	}
	before, _ := os.Readlink(filepath.Join(v.folder, "..data"))
	must(os.Symlink(set, filepath.Join(v.folder, "..data_tmp")))
	must(os.Rename(filepath.Join(v.folder, "..data_tmp"), filepath.Join(v.folder, "..data")))
	if before != "" {
		must(os.RemoveAll(filepath.Join(v.folder, before)))
	}
}

func (v *volume) file(name string) string { return filepath.Join(v.folder, name) }

// process is kvrun, or the program that it has become.
type process struct {
	*exec.Cmd
	t      *testing.T
	lines  *bufio.Reader // of standard output
	stderr *bufio.Reader
	stdin  io.Closer
}

// kvrun returns the command without starting it.
func kvrun(t *testing.T, args ...string) *process {
	t.Helper()
	binary, err := node.Binary(t.Context(), "kvrun")
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: exec.CommandContext(t.Context(), binary, args...), t: t}
	p.Env = []string{role + "=app", "PATH=" + os.Getenv("PATH"), "OWN=own"}
	stdout, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.stdin, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	p.lines, p.stderr = bufio.NewReader(stdout), bufio.NewReader(stderr)
	return p
}

// start starts kvrun with this test binary as the program.
func start(t *testing.T, flags []string, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := kvrun(t, slices.Concat(flags, []string{"--", self}, args)...)
	p.run()
	return p
}

func (p *process) run() {
	p.t.Helper()
	if err := p.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		_ = p.Process.Kill()
		_, _ = p.Process.Wait()
	})
}

// line returns the next line of the program.
func (p *process) line() string { return p.next(p.lines) }

func (p *process) next(from *bufio.Reader) string {
	p.t.Helper()
	line, err := from.ReadString('\n')
	if err != nil {
		rest, _ := io.ReadAll(p.stderr)
		p.t.Fatalf("the output ends with %q: %v; standard error: %s", line, err, rest)
	}
	return strings.TrimSuffix(line, "\n")
}

// want fails the test unless these are the next lines of the program.
func (p *process) want(lines ...string) {
	p.t.Helper()
	for _, want := range lines {
		if got := p.line(); got != want {
			p.t.Fatalf("the program printed %q, want %q", got, want)
		}
	}
}

// wantMessage fails the test unless it is the next line of standard error.
func (p *process) wantMessage(want string) {
	p.t.Helper()
	if got := p.next(p.stderr); got != "kvrun: "+want {
		p.t.Fatalf("the message is\n%s, want\nkvrun: %s", got, want)
	}
}

// started reads the line of a start, and returns the process id and the variables.
func (p *process) started() (pid int, variables string) {
	p.t.Helper()
	words := strings.SplitN(p.line(), " ", 3)
	if words[0] != "start" {
		p.t.Fatalf("the program printed %q, want its start", words)
	}
	pid, err := strconv.Atoi(words[1])
	if err != nil {
		p.t.Fatal(err)
	}
	return pid, strings.Join(words[2:], "")
}

func (p *process) send(s syscall.Signal) {
	p.t.Helper()
	if err := p.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// wantExit waits for the end, which must have this code and print no more lines.
func (p *process) wantExit(code int) {
	p.t.Helper()
	out, _ := io.ReadAll(p.lines)
	messages, _ := io.ReadAll(p.stderr)
	_ = p.Wait()
	if got := p.ProcessState.ExitCode(); got != code || len(out) != 0 {
		p.t.Errorf("it ended with %v (%d), want %d; last it printed %q and %q", p.ProcessState, got, code, out, messages)
	}
}
