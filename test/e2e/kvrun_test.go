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

// withFile is a pod whose volume has an environment file. change may change its manifest, and gets the application's container.
func (e *env) withFile(t *testing.T, name string, change func(spec, app object)) (vault, *pod) {
	t.Helper()
	v := e.newVault(t)
	v.set(t, "app-env", environmentFile("first"))
	p := e.newPod(name)
	manifest := p.manifest(volume{attributes: v.objects("[{secret: app-env, path: app.env}]"), args: []string{"-volume", mountPath}})
	spec := manifest["spec"].(object)
	app := spec["containers"].([]object)[0]
	app["env"] = []object{{"name": "DB_USER", "value": "of the manifest"}, {"name": "OTHER", "value": "of the manifest"}}
	change(spec, app)
	p.create(t, manifest)
	p.awaitRunning(t)
	return v, p
}

// mountKvrun mounts a volume that has kvrun, and makes it the command of the application.
func mountKvrun(spec, app, source object, onChange string) {
	source["name"] = "kvrun"
	spec["volumes"] = append(spec["volumes"].([]object), source)
	app["volumeMounts"] = append(slices.Clone(app["volumeMounts"].([]object)), object{"name": "kvrun", "mountPath": "/kvrun", "readOnly": true})
	app["command"] = []string{"/kvrun/kvrun", "--env-file", mountPath + "/app.env", "--on-change=" + onChange, "--", "/workload"}
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
	v, p := e.withFile(t, "kvrun-signal", func(spec, app object) {
		mountKvrun(spec, app, object{"image": object{"reference": e.kvrunImage, "pullPolicy": "IfNotPresent"}}, "signal:HUP")
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
			v, p := e.withFile(t, "kvrun-"+strings.ReplaceAll(test.onChange, ":", "-"), func(spec, app object) {
				mountKvrun(spec, app, object{"emptyDir": object{}}, test.onChange)
				spec["initContainers"] = []object{{
					"name": "kvrun", "image": e.kvrunImage, "args": []string{"--install", "/shared"},
					"volumeMounts": []object{{"name": "kvrun", "mountPath": "/shared"}}, "securityContext": app["securityContext"],
				}}
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
	_, p := e.withFile(t, "file-key-ref", func(spec, app object) {
		spec["volumes"] = append(spec["volumes"].([]object), object{"name": "env", "emptyDir": object{"medium": "Memory"}})
		spec["initContainers"] = []object{{
			"name": "copy", "image": app["image"], "args": []string{"copy", mountPath + "/app.env", "/env/app.env"},
			"volumeMounts":    []object{{"name": "secrets", "mountPath": mountPath}, {"name": "env", "mountPath": "/env"}},
			"securityContext": app["securityContext"],
		}}
		var variables []object
		for _, name := range []string{"DB_USER", "DB_PASSWORD", "LINES"} {
			variables = append(variables, object{"name": name, "valueFrom": object{
				"fileKeyRef": object{"volumeName": "env", "path": "app.env", "key": name},
			}})
		}
		app["env"] = variables
	})
	if err := p.has(t.Context(), "DB_USER=first", "DB_PASSWORD=first", "LINES=one\ntwo"); err != nil {
		t.Error(err)
	}
}
