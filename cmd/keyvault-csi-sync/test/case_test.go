package sync_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

type object = map[string]any

// namespaces is how many namespaces have a token.
const namespaces = 64

var lastNamespace atomic.Int32

// space is a namespace with the Role of the chart, and a volume whose files the test replaces.
type space struct {
	name   string
	volume string
	config string // the file
	sets   int
	values []string // all values that were ever in the volume: none of them may be printed
}

// newSpace makes a namespace in which the service account "sync" has the rights of the chart for the Secrets.
func newSpace(t *testing.T, secrets ...string) *space {
	t.Helper()
	if api == nil {
		t.Skip(skipped)
	}
	n := &space{name: fmt.Sprintf("test%d", lastNamespace.Add(1)-1)}
	dir := t.TempDir()
	n.volume, n.config = filepath.Join(dir, "volume"), filepath.Join(dir, "config", "secrets.yaml")
	for _, folder := range []string{n.volume, filepath.Dir(n.config)} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	n.admin(t, http.MethodPost, "/api/v1/namespaces", object{"metadata": object{"name": n.name}}, nil)
	n.allow(t, secrets...)
	return n
}

// allow makes the Role of the chart.
func (n *space) allow(t *testing.T, secrets ...string) {
	t.Helper()
	rbac := "/apis/rbac.authorization.k8s.io/v1/namespaces/" + n.name
	n.admin(t, http.MethodPost, rbac+"/roles", object{"metadata": object{"name": "sync"}, "rules": []object{
		{"apiGroups": []string{""}, "resources": []string{"secrets"}, "resourceNames": secrets, "verbs": []string{"get", "watch", "create", "patch"}},
		{"apiGroups": []string{""}, "resources": []string{"events"}, "verbs": []string{"create"}},
	}}, nil)
	n.bind(t, "sync")
}

func (n *space) bind(t *testing.T, role string) {
	t.Helper()
	rbac := "/apis/rbac.authorization.k8s.io/v1/namespaces/" + n.name
	n.admin(t, http.MethodPost, rbac+"/rolebindings", object{
		"metadata": object{"name": role},
		"roleRef":  object{"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
		"subjects": []object{{"kind": "ServiceAccount", "name": "sync", "namespace": n.name}},
	}, nil)
}

// admin sends a request that must succeed.
func (n *space) admin(t *testing.T, method, path string, in, out any) {
	t.Helper()
	if _, err := api.do(t.Context(), "admin", method, path, "", in, out); err != nil {
		t.Fatal(err)
	}
}

// patch changes a Secret by hand.
func (n *space) patch(t *testing.T, name string, change object) {
	t.Helper()
	_, err := api.do(t.Context(), "admin", http.MethodPatch, n.secrets()+"/"+name+"?fieldManager=hand", "application/merge-patch+json", change, nil)
	if err != nil {
		t.Fatal(err)
	}
}

func (n *space) secrets() string { return "/api/v1/namespaces/" + n.name + "/secrets" }

// kubeSecret is a Secret at the API server.
type kubeSecret struct {
	Metadata struct {
		UID, ResourceVersion string
		Labels, Annotations  map[string]string
		OwnerReferences      []object
	}
	Type string
	Data map[string][]byte
}

// get returns the Secret, or nil.
func (n *space) get(ctx context.Context, name string) (*kubeSecret, error) {
	var s kubeSecret
	code, err := api.do(ctx, "admin", http.MethodGet, n.secrets()+"/"+name, "", nil, &s)
	if code == http.StatusNotFound {
		return nil, nil
	}
	return &s, err
}

// await waits until the Secret passes.
func (n *space) await(t *testing.T, name string, pass func(*kubeSecret) error) *kubeSecret {
	t.Helper()
	var found *kubeSecret
	eventually(t, "Secret "+name, func(ctx context.Context) error {
		s, err := n.get(ctx, name)
		if err != nil {
			return err
		}
		found = s
		return pass(s)
	})
	return found
}

// holds is passed by a Secret with these pairs of key and value, and others.
func holds(pairs ...string) func(*kubeSecret) error {
	return func(s *kubeSecret) error {
		if s == nil {
			return fmt.Errorf("there is none")
		}
		for i := 0; i < len(pairs); i += 2 {
			if got, ok := s.Data[pairs[i]]; !ok || string(got) != pairs[i+1] {
				return fmt.Errorf("%s is %q, want %q", pairs[i], got, pairs[i+1])
			}
		}
		return nil
	}
}

// write replaces the files of the volume as the driver does. Values of at least eight bytes must never be printed.
func (n *space) write(t *testing.T, fetched time.Time, pairs ...string) {
	t.Helper()
	n.sets++
	name := fmt.Sprintf("..2026_11_29_00_00_%02d.000000000", n.sets)
	for i := 0; i < len(pairs); i += 2 {
		file := filepath.Join(n.volume, name, pairs[i])
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(pairs[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
		if len(pairs[i+1]) >= 8 {
			n.values = append(n.values, pairs[i+1])
		}
	}
	if err := os.Chtimes(filepath.Join(n.volume, name), fetched, fetched); err != nil {
		t.Fatal(err)
	}
	replaceLink(t, n.volume, name)
}

// replaceLink renames ..data, and removes the folder to which it led.
func replaceLink(t *testing.T, volume, name string) {
	t.Helper()
	old, _ := os.Readlink(filepath.Join(volume, "..data"))
	next := filepath.Join(volume, "..data_tmp")
	if err := os.Symlink(name, next); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(volume, "..data")); err != nil {
		t.Fatal(err)
	}
	if old != "" {
		if err := os.RemoveAll(filepath.Join(volume, old)); err != nil {
			t.Fatal(err)
		}
	}
}

// configure replaces the configuration.
func (n *space) configure(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(n.config+".new", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(n.config+".new", n.config); err != nil {
		t.Fatal(err)
	}
}

// program is a running keyvault-csi-sync.
type program struct {
	command *exec.Cmd
	address string // of its HTTP server
	log     *logBuffer
	ended   chan struct{}
}

type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// run starts keyvault-csi-sync. At the end of the test nothing that it printed holds a value.
func (n *space) run(t *testing.T, args ...string) *program {
	t.Helper()
	return n.runAt(t, api.host, args...)
}

func (n *space) runAt(t *testing.T, host string, args ...string) *program {
	t.Helper()
	p := n.start(t, host, args...)
	t.Cleanup(func() {
		if _, metrics, err := p.fetch(context.Background(), "/metrics"); err == nil { // it may have ended in the test
			n.nothingSecret(t, "metrics", metrics)
		}
		p.kill(syscall.SIGTERM)
		if t.Failed() {
			t.Logf("log of keyvault-csi-sync:\n%s", p.log)
		}
		n.nothingSecret(t, "log", p.log.String())
		var events []byte
		if _, err := api.do(context.Background(), "admin", http.MethodGet, "/api/v1/namespaces/"+n.name+"/events", "", nil, &events); err == nil {
			n.nothingSecret(t, "events", string(events))
		}
	})
	return p
}

func (n *space) start(t *testing.T, host string, args ...string) *program {
	t.Helper()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	text, err := json.Marshal(object{
		"apiVersion": "v1", "kind": "Config", "current-context": "test",
		"contexts": []object{{"name": "test", "context": object{"cluster": "test", "user": "sync"}}},
		"clusters": []object{{"name": "test", "cluster": object{
			"server": "https://" + host, "certificate-authority": api.dir + "/certs/apiserver.crt",
		}}},
		"users": []object{{"name": "sync", "user": object{"token": "sync-" + n.name}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(kubeconfig, text, 0o600); err != nil {
		t.Fatal(err)
	}
	ports, err := freePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	p := &program{address: "127.0.0.1:" + ports[0], log: &logBuffer{}, ended: make(chan struct{})}
	p.command = exec.Command(binary, append([]string{
		"--kubeconfig=" + kubeconfig, "--namespace=" + n.name, "--volume=" + n.volume, "--config=" + n.config,
		"--http-address=" + p.address, "--name=web", "-v=10",
	}, args...)...)
	p.command.Stdout, p.command.Stderr = p.log, p.log
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.command.Wait(); close(p.ended) }()
	return p
}

func (p *program) kill(signal syscall.Signal) {
	_ = p.command.Process.Signal(signal)
	<-p.ended
}

// fetch returns what the program serves at the path.
func (p *program) fetch(ctx context.Context, path string) (int, string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+path, nil)
	if err != nil {
		return 0, "", err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	text := new(strings.Builder)
	buffer := make([]byte, 32<<10)
	for {
		n, err := answer.Body.Read(buffer)
		text.Write(buffer[:n])
		if err != nil {
			return answer.StatusCode, text.String(), nil
		}
	}
}

// awaitMetric waits for a line of the metrics.
func (p *program) awaitMetric(t *testing.T, line string) {
	t.Helper()
	eventually(t, line, func(ctx context.Context) error {
		_, text, err := p.fetch(ctx, "/metrics")
		if err == nil && !strings.Contains("\n"+text, "\n"+line+"\n") {
			err = fmt.Errorf("the metrics are\n%s", text)
		}
		return err
	})
}

// awaitLog waits for a text in the log.
func (p *program) awaitLog(t *testing.T, text string) {
	t.Helper()
	eventually(t, "log", func(context.Context) error {
		if !strings.Contains(p.log.String(), text) {
			return fmt.Errorf("it does not say %q", text)
		}
		return nil
	})
}

// awaitEvent waits for an event of a Secret.
func (n *space) awaitEvent(t *testing.T, name, reason, message string) {
	t.Helper()
	eventually(t, "event "+reason, func(ctx context.Context) error {
		var list struct {
			Items []struct {
				InvolvedObject        struct{ Kind, Name string }
				Type, Reason, Message string
			}
		}
		if _, err := api.do(ctx, "admin", http.MethodGet, "/api/v1/namespaces/"+n.name+"/events", "", nil, &list); err != nil {
			return err
		}
		for _, e := range list.Items {
			if e.InvolvedObject.Kind == "Secret" && e.InvolvedObject.Name == name && e.Reason == reason && e.Message == message {
				return nil
			}
		}
		return fmt.Errorf("there is none of %s with %q: %+v", name, message, list.Items)
	})
}

// nothingSecret checks that a text holds no value.
func (n *space) nothingSecret(t *testing.T, what, text string) {
	t.Helper()
	for _, value := range n.values {
		for _, form := range forms(value) {
			if strings.Contains(text, form) {
				t.Errorf("the %s holds a value of a Secret:\n%s", what, text)
				return
			}
		}
	}
}

// eventually polls until the answer is nil.
func eventually(t *testing.T, what string, ask func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := ask(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within a minute: %v", what, last)
		}
	}
}
