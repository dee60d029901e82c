package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
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

// has returns an error unless the process has all these variables.
func (p *pod) has(ctx context.Context, variables ...string) error {
	s, err := p.self(ctx)
	if err != nil {
		return err
	}
	for _, want := range variables {
		if !slices.Contains(s.Environment, want) {
			name, _, _ := strings.Cut(want, "=")
			got := slices.DeleteFunc(s.Environment, func(entry string) bool { return !strings.HasPrefix(entry, name+"=") })
			return fmt.Errorf("the process has %q, want %q", got, want)
		}
	}
	return nil
}

// environmentFile is a file of variables, of which two are always equal.
func environmentFile(value string) string {
	return fmt.Sprintf("# written by the test\nDB_USER='%s'\nDB_PASSWORD='%s'\nLINES='one\ntwo'\n", value, value)
}

// documented returns the manifest with this name in docs/environment.md.
func documented(t *testing.T, name string) object {
	t.Helper()
	text, err := os.ReadFile("../../docs/environment.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(text), "\n```yaml "+name+"\n")
	block, _, found := strings.Cut(block, "\n```\n")
	var manifest object
	if err := yaml.Unmarshal([]byte(block), &manifest); err != nil || !found {
		t.Fatalf("docs/environment.md has no manifest %s: %v", name, err)
	}
	return manifest
}

// named returns the element of a list of a manifest with this name.
func named(t *testing.T, list any, name string) object {
	t.Helper()
	for _, element := range list.([]any) {
		if element.(object)["name"] == name {
			return element.(object)
		}
	}
	t.Fatalf("there is no %s in %v", name, list)
	return nil
}

// runDocumented runs a pod of the document. It has the vault, the images and the security settings of the tests, and a variable of the manifest
// beside those of the file. change may change its spec.
func (e *env) runDocumented(t *testing.T, name, manifest string, change func(spec object)) (vault, *pod) {
	t.Helper()
	v, p, pod := e.newVault(t), e.newPod(name), documented(t, manifest)
	v.set(t, "app-env", environmentFile("first"))
	pod["metadata"] = object{"name": p.name}
	spec, ours := pod["spec"].(object), p.manifest(volume{})["spec"].(object)
	change(spec)
	container := ours["containers"].([]object)[0]
	for key, value := range ours {
		if key != "containers" && key != "initContainers" && key != "volumes" {
			spec[key] = value
		}
	}
	attributes := named(t, spec["volumes"], "secrets")["csi"].(object)["volumeAttributes"].(object)
	for key, value := range v.objects("[{secret: app-env, path: app.env}]") {
		attributes[key] = value
	}
	app := named(t, spec["containers"], "shop")
	app["image"], app["args"], app["securityContext"] = e.testImage, []string{"hold", "-volume", mountPath}, container["securityContext"]
	variables, _ := app["env"].([]any)
	app["env"] = append(variables, object{"name": "OTHER", "value": "of the manifest"})
	p.create(t, pod)
	p.awaitRunning(t)
	return v, p
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
	variables := []string{"DB_USER=first", "DB_PASSWORD=first", "LINES=one\ntwo", "OTHER=of the manifest"}
	if err := p.has(t.Context(), variables...); err != nil {
		t.Fatal(err)
	}
	for i, value := range []string{"second", "third"} {
		v.set(t, "app-env", environmentFile(value))
		p.age(t, time.Minute)
		eventually(t, "signal", func(ctx context.Context) error {
			s, err := p.self(ctx)
			if err == nil && len(s.Hangups) <= i {
				err = errors.New("no signal yet")
			}
			return err
		})
		p.mustHold(t, mountPath+"/app.env", environmentFile(value))
	}
	s, err := p.self(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("verdict: kvrun: SIGHUP %.2f seconds after the volume was replaced", s.Hangups)
	if len(s.Hangups) != 2 || slices.Max(s.Hangups) > 2 {
		t.Errorf("the signals came %v seconds after the changes, want two, each within 2", s.Hangups)
	}
	if err := p.has(t.Context(), variables...); err != nil {
		t.Error(err)
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
				install := documented(t, "install.yaml")["spec"].(object)
				source := named(t, spec["volumes"], "kvrun")
				delete(source, "image")
				source["emptyDir"] = named(t, install["volumes"], "kvrun")["emptyDir"]
				spec["initContainers"] = install["initContainers"]
				e.adaptInit(t, spec, "kvrun", e.kvrunImage)
			})
			if err := p.has(t.Context(), "DB_USER=first", "DB_PASSWORD=first", "LINES=one\ntwo", "OTHER=of the manifest"); err != nil {
				t.Fatal(err)
			}
			s, err := p.self(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if became := s.PID == 1; became != (test.onChange == "none") {
				t.Errorf("the process has the id %d", s.PID)
			}
			v.set(t, "app-env", environmentFile("second"))
			p.age(t, time.Minute)
			p.awaitContentWithRestarts(t, test.onChange)
			status, err := p.status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := status.Status.ContainerStatuses[0].RestartCount; got != test.restarts {
				t.Errorf("the container was restarted %d times, want %d", got, test.restarts)
			}
		})
	}
}

// awaitContentWithRestarts waits until the volume has changed, and what kvrun made of that. Meanwhile no answer may show a mixture.
func (p *pod) awaitContentWithRestarts(t *testing.T, onChange string) {
	t.Helper()
	want := "second"
	if onChange == "none" {
		p.awaitContent(t, mountPath+"/app.env", environmentFile("second"))
		want = "first"
	}
	eventually(t, "variables", func(ctx context.Context) error {
		err := p.has(ctx, "DB_USER="+want, "DB_PASSWORD="+want)
		if s, failed := p.self(ctx); failed == nil {
			user, password := slices.Contains(s.Environment, "DB_USER=second"), slices.Contains(s.Environment, "DB_PASSWORD=second")
			if user != password {
				t.Errorf("the process has a torn environment: %q", s.Environment)
			}
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
	if err := p.has(t.Context(), "DB_USER=first", "DB_PASSWORD=first", "OTHER=of the manifest"); err != nil {
		t.Error(err)
	}
}

// adaptInit gives an init container of the document an image and the security settings of the tests.
func (e *env) adaptInit(t *testing.T, spec object, name, image string) object {
	t.Helper()
	init := named(t, spec["initContainers"], name)
	init["image"] = image
	init["securityContext"] = e.newPod("").manifest(volume{})["spec"].(object)["containers"].([]object)[0]["securityContext"]
	return init
}
