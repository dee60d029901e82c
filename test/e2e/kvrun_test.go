package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// self is the answer of workload about its own process.
type self struct {
	PID         int
	Environment []string
	Hangups     []float64
}

func (p *pod) self(ctx context.Context) (s self, err error) {
	err = p.ask(ctx, "/self", &s)
	return s, err
}

// has returns an error unless the process has the variables of the document with this value and the variable of the manifest, each name
// once.
func (s self) has(value string) error {
	want := []string{"DB_USER=" + value, "DB_PASSWORD=" + value + secondLine, "OTHER=of the manifest"}
	got := slices.DeleteFunc(slices.Clone(s.Environment), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return !slices.Contains([]string{"DB_USER", "DB_PASSWORD", "OTHER"}, name)
	})
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		return fmt.Errorf("the process has %q, want %q", got, want)
	}
	return nil
}

// mustHave fails the test unless the process has the variables with this value.
func (p *pod) mustHave(t *testing.T, value string) self {
	t.Helper()
	s, err := p.self(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.has(value); err != nil {
		t.Error(err)
	}
	return s
}

// secondLine ends each password. A reader that does not take the value literally makes another one of it.
const secondLine = "\n \"$HOME\" `id` \\n # = end"

// setDatabase sets the two secrets of the document to one value.
func (v vault) setDatabase(t *testing.T, value string) {
	t.Helper()
	v.set(t, "db-user", value)
	v.set(t, "db-password", value+secondLine)
}

// environmentFile is the file of the document.
func environmentFile(value string) string {
	return fmt.Sprintf("DB_USER='%s'\nDB_PASSWORD='%s'\n", value, value+secondLine)
}

// rotateDatabase sets the secrets, and lets the next republish fetch both: until then the files are young, so no fetch finds one old and
// one new secret in the vault.
func (p *pod) rotateDatabase(t *testing.T, v vault, value string) {
	t.Helper()
	p.age(t, 0)
	v.setDatabase(t, value)
	p.age(t, time.Minute)
}

// kvrunCommand is the command of the document with another action.
func kvrunCommand(t *testing.T, spec object, onChange string) {
	t.Helper()
	app := named(t, spec["containers"], "shop")
	command := app["command"].([]any)
	at := slices.Index(command, any("--on-change=restart"))
	if at < 0 || command[len(command)-1] != "/shop" {
		t.Fatalf("the command in the document is %v", command)
	}
	command[at], command[len(command)-1] = "--on-change="+onChange, "/workload"
}

// needsKvrun skips a test if the cluster has no image of kvrun.
func (e *env) needsKvrun(t *testing.T) {
	t.Helper()
	if e.kvrunImage == "" {
		t.Skip("needs E2E_KVRUN_IMAGE")
	}
}

// testKvrunSignal: kvrun comes from an image volume, and the process gets a signal within two seconds of the change of the volume.
func testKvrunSignal(t *testing.T, e *env) {
	e.needsKvrun(t)
	e.needsImageVolumes(t)
	v, p := e.runDocumented(t, "kvrun-signal", "kvrun.yaml", func(spec object) {
		kvrunCommand(t, spec, "signal:HUP")
		named(t, spec["volumes"], "kvrun")["image"] = object{"reference": e.kvrunImage, "pullPolicy": "IfNotPresent"}
	})
	same := p.sameProcess(t)
	p.mustHave(t, "first")
	for i, value := range []string{"second", "third"} {
		p.rotateDatabase(t, v, value)
		eventually(t, "signal", func(ctx context.Context) error {
			s, err := p.self(ctx)
			if err == nil && len(s.Hangups) <= i {
				err = errors.New("no signal yet")
			}
			return err
		})
		p.mustHold(t, mountPath+"/app.env", environmentFile(value))
	}
	s := p.mustHave(t, "first") // nobody can change the environment of a process
	t.Logf("verdict: kvrun: SIGHUP %.2f seconds after the volume was replaced", s.Hangups)
	if len(s.Hangups) != 2 || slices.Max(s.Hangups) > 2 {
		t.Errorf("the signals came %v seconds after the changes, want two, each within 2", s.Hangups)
	}
	same()
}

// testKvrunInstalled: the image's init container copies kvrun. Each action gives the process the new variables, all of one set.
func testKvrunInstalled(t *testing.T, e *env) {
	e.needsKvrun(t)
	for _, test := range []struct {
		onChange string
		restarts int // of the container
	}{{"none", 0}, {"restart", 0}, {"exit:42", 1}} {
		t.Run(test.onChange, func(t *testing.T) {
			t.Parallel()
			v, p := e.runDocumented(t, "kvrun-"+strings.ReplaceAll(test.onChange, ":", "-"), "kvrun.yaml", func(spec object) {
				kvrunCommand(t, spec, test.onChange)
				install := documented(t, "environment.md", "install.yaml")["spec"].(object)
				source := named(t, spec["volumes"], "kvrun")
				delete(source, "image")
				source["emptyDir"] = named(t, install["volumes"], "kvrun")["emptyDir"]
				spec["initContainers"] = install["initContainers"]
				e.adaptInit(t, spec, "kvrun", e.kvrunImage)
			})
			s := p.mustHave(t, "first")
			if became := s.PID == 1; became != (test.onChange == "none") {
				t.Errorf("the process has the id %d", s.PID)
			}
			p.rotateDatabase(t, v, "second")
			p.awaitVariables(t, test.onChange)
			eventually(t, "count of restarts", func(ctx context.Context) error { // the kubelet reports it after the start
				status, err := p.status(ctx)
				if err != nil {
					return err
				}
				if got := status.Status.ContainerStatuses[0].RestartCount; got != test.restarts {
					return fmt.Errorf("the container was restarted %d times, want %d", got, test.restarts)
				}
				return nil
			})
		})
	}
}

// awaitVariables waits until the volume has changed, and what kvrun made of that. Meanwhile no process may have a mixture.
func (p *pod) awaitVariables(t *testing.T, onChange string) {
	t.Helper()
	want := "second"
	if onChange == "none" {
		p.awaitContent(t, mountPath+"/app.env", environmentFile("second"))
		want = "first"
	}
	eventually(t, "variables", func(ctx context.Context) error {
		s, err := p.self(ctx)
		if err != nil {
			return err // between two processes
		}
		if err = s.has(want); err != nil && s.has("first") != nil {
			t.Errorf("a process has a torn environment: %v", err)
		}
		return err
	})
}

// testFileKeyRef: the kubelet reads a file that an init container has copied from the volume.
func testFileKeyRef(t *testing.T, e *env) {
	e.needsKubelet(t, 35)
	_, p := e.runDocumented(t, "file-key-ref", "filekeyref.yaml", func(spec object) {
		init := e.adaptInit(t, spec, "copy", e.testImage)
		command := init["command"].([]any)
		if command[0] != "cp" {
			t.Fatalf("the command in the document is %v", command)
		}
		init["command"] = append([]any{"/workload", "copy"}, command[1:]...)
	})
	p.mustHave(t, "first")
}
