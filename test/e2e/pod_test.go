package e2e

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"
)

type object = map[string]any

// mountPath is the path of the volume in pods.
const mountPath = "/secrets"

// pod is a pod that is deleted at the end of the test.
type pod struct {
	*env
	namespace, name string
	uid             string
}

// podStatus is the used part of a pod.
type podStatus struct {
	Metadata struct{ UID string }
	Status   struct {
		Phase             string
		PodIP             string
		ContainerStatuses []struct {
			Ready        bool
			RestartCount int
			State        struct {
				Waiting struct{ Reason string }
				Running struct{ StartedAt string }
			}
			VolumeMounts []struct{ RecursiveReadOnly string }
		}
	}
}

func (e *env) newPod(name string) *pod {
	return &pod{env: e, namespace: namespace, name: name + "-" + strings.ToLower(rand.Text()[:5])}
}

// start creates a pod without waiting.
func (e *env) start(t testing.TB, name string, v volume) *pod {
	t.Helper()
	p := e.newPod(name)
	p.namespace = cmp.Or(v.namespace, namespace)
	p.create(t, p.manifest(v))
	return p
}

// create makes the pod of a manifest.
func (p *pod) create(t testing.TB, manifest object) {
	t.Helper()
	var created podStatus
	if err := p.call(t.Context(), http.MethodPost, "/api/v1/namespaces/"+p.namespace+"/pods", manifest, &created); err != nil {
		t.Fatal(err)
	}
	p.uid = created.Metadata.UID
	t.Cleanup(func() {
		if err := p.call(context.Background(), http.MethodDelete, p.path(""), nil, nil); err != nil && !isNotFound(err) {
			t.Error(err)
		}
	})
}

// run creates a pod and waits until it runs.
func (e *env) run(t testing.TB, name string, v volume) *pod {
	t.Helper()
	p := e.start(t, name, v)
	p.awaitRunning(t)
	return p
}

func (p *pod) path(sub string) string {
	return "/api/v1/namespaces/" + p.namespace + "/pods/" + p.name + sub
}

func (p *pod) status(ctx context.Context) (podStatus, error) {
	var status podStatus
	err := p.get(ctx, p.path(""), &status)
	return status, err
}

func (p *pod) awaitRunning(t testing.TB) {
	t.Helper()
	eventually(t, p.name+" runs and answers", func(ctx context.Context) error {
		status, err := p.status(ctx)
		if err != nil {
			return err
		}
		if status.Status.Phase != "Running" {
			return fmt.Errorf("it is %s; events: %v", status.Status.Phase, p.warnings(ctx))
		}
		return p.ask(ctx, "/started", new(string))
	})
}

// ask calls the program in the pod's container.
func (p *pod) ask(ctx context.Context, what string, out any) error {
	return p.get(ctx, p.path(":8080/proxy"+what), out)
}

// file is a file in an answer of workload.
type file struct {
	Name, Mode string
	UID, GID   int
	Data       []byte
}

// files returns the files and folders below dir as the container sees them, by their names relative to dir.
func (p *pod) files(ctx context.Context, dir string) (map[string]file, error) {
	var list []file
	if err := p.ask(ctx, "/files?dir="+url.QueryEscape(dir), &list); err != nil {
		return nil, err
	}
	found := make(map[string]file, len(list))
	for _, f := range list {
		found[f.Name] = f
	}
	return found, nil
}

// holds returns an error unless the file has the content.
func (p *pod) holds(ctx context.Context, at, content string) error {
	found, err := p.files(ctx, path.Dir(at))
	if err != nil {
		return err
	}
	if got := string(found[path.Base(at)].Data); got != content {
		return fmt.Errorf("%s of %s holds %q, want %q", at, p.name, got, content)
	}
	return nil
}

// mustHold fails the test unless the file has the content.
func (p *pod) mustHold(t testing.TB, at, content string) {
	t.Helper()
	if err := p.holds(t.Context(), at, content); err != nil {
		t.Error(err)
	}
}

// awaitContent waits for a rotation.
func (p *pod) awaitContent(t testing.TB, at, content string) {
	t.Helper()
	eventually(t, "rotation", func(ctx context.Context) error { return p.holds(ctx, at, content) })
}

// sameProcess checks that the container was not restarted.
func (p *pod) sameProcess(t testing.TB) (check func()) {
	t.Helper()
	var before string
	if err := p.ask(t.Context(), "/started", &before); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		var after string
		if err := p.ask(t.Context(), "/started", &after); err != nil {
			t.Error(err)
		} else if before != after {
			t.Errorf("the container of %s was restarted", p.name)
		}
	}
}

// event is the used part of an event.
type event struct {
	Type, Reason, Message string
	Count                 int
}

// warnings returns the pod's events of failed mounts.
func (p *pod) warnings(ctx context.Context) []event {
	var list struct{ Items []event }
	selector := url.QueryEscape("type=Warning,reason=FailedMount,involvedObject.uid=" + p.uid)
	if err := p.get(ctx, "/api/v1/namespaces/"+p.namespace+"/events?fieldSelector="+selector, &list); err != nil {
		return []event{{Message: err.Error()}}
	}
	return list.Items
}

// awaitEvent waits for an event of the pod that contains the text, and returns its message.
func (p *pod) awaitEvent(t testing.TB, text string) string {
	t.Helper()
	var message string
	eventually(t, "event of "+p.name, func(ctx context.Context) error {
		events := p.warnings(ctx)
		for _, e := range events {
			if strings.Contains(e.Message, text) {
				message = e.Message
				return nil
			}
		}
		return fmt.Errorf("no event says %q; there are %v", text, events)
	})
	return message
}

// gone reports whether the pod is deleted in the API server, which is after the kubelet's cleanup.
func (p *pod) gone(ctx context.Context) error {
	switch _, err := p.status(ctx); {
	case isNotFound(err):
		return nil
	case err != nil:
		return err
	}
	return errors.New(p.name + " is still there")
}

// delete deletes the pod and waits until it is gone.
func (p *pod) delete(t testing.TB) {
	t.Helper()
	if err := p.call(t.Context(), http.MethodDelete, p.path(""), nil, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, p.name+" is gone", func(ctx context.Context) error {
		return p.gone(ctx)
	})
}
