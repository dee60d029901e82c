package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gorilla/websocket"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

type object = map[string]any

// fakeCluster is an API server over TLS that knows pods, events, ConfigMaps, rights, and port forwarding as a kubelet does it.
type fakeCluster struct {
	t          *testing.T
	pods       []object
	events     []object
	configMaps map[string]string                // NAMESPACE/NAME/KEY
	ports      map[string]http.Handler          // NAMESPACE/POD: what listens on port 9808
	denied     func(verb, what, ns string) bool // what: pods, events, configmaps, pods/portforward
	spdyOnly   bool                             // as an API server or a proxy that does not know WebSockets
	pageSize   int                              // of lists; 0: no pages

	mu    sync.Mutex
	asked []string // VERB PATH
}

func (f *fakeCluster) start(t *testing.T) (kubeconfig string) {
	t.Helper()
	f.t = t
	server := httptest.NewTLSServer(f)
	t.Cleanup(server.Close)
	return writeKubeconfig(t, server.URL, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
}

func writeKubeconfig(t *testing.T, server string, ca []byte) string {
	t.Helper()
	config, err := json.Marshal(object{
		"apiVersion": "v1", "kind": "Config", "current-context": "test",
		"clusters": []object{{"name": "c", "cluster": object{"server": server, "certificate-authority-data": ca}}},
		"users":    []object{{"name": "u", "user": object{"token": "the-token"}}},
		"contexts": []object{{"name": "test", "context": object{"cluster": "c", "user": "u", "namespace": "shop"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(name, config, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func (f *fakeCluster) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

func (f *fakeCluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.Split(strings.TrimPrefix(r.URL.Path, "/api/v1/"), "/")
	namespace, name, sub := "", "", ""
	if path[0] == "namespaces" && len(path) > 2 {
		namespace, path = path[1], path[2:]
	}
	what, verb := path[0], "list"
	if len(path) > 1 {
		name, verb = path[1], "get"
	}
	if len(path) > 2 {
		sub = path[2]
		what += "/" + sub
	}
	if r.Method == http.MethodPost {
		verb = "create"
	}
	f.mu.Lock()
	f.asked = append(f.asked, strings.TrimSpace(verb+" "+what+" "+namespace))
	f.mu.Unlock()
	switch {
	case r.Header.Get("Authorization") != "Bearer the-token":
		f.status(w, http.StatusUnauthorized, "Unauthorized", "Unauthorized")
	case f.denied != nil && f.denied(verb, what, namespace):
		f.status(w, http.StatusForbidden, "Forbidden", fmt.Sprintf("%s %q is forbidden: User \"jane\" cannot %s resource %q in API group \"\" in the namespace %q", path[0], name, verb, what, namespace))
	case sub == "portforward":
		f.forward(w, r, f.ports[namespace+"/"+name])
	case what == "pods" && verb == "list":
		f.list(w, r, f.pods, namespace)
	case what == "pods":
		f.pod(w, namespace, name)
	case what == "events":
		if got := r.URL.Query().Get("fieldSelector"); got != "involvedObject.kind=Pod,reason=FailedMount" {
			f.t.Errorf("events are selected by %q", got)
		}
		f.list(w, r, f.events, namespace)
	case what == "configmaps":
		f.configMap(w, namespace, name)
	default:
		f.t.Errorf("%s %s is asked", r.Method, r.URL)
		f.status(w, http.StatusNotFound, "NotFound", "no such path")
	}
}

func (f *fakeCluster) status(w http.ResponseWriter, code int, reason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	f.write(w, object{"kind": "Status", "apiVersion": "v1", "metadata": object{}, "status": "Failure", "code": code, "reason": reason, "message": message})
}

func (f *fakeCluster) write(w io.Writer, what any) {
	if err := json.NewEncoder(w).Encode(what); err != nil {
		f.t.Error(err)
	}
}

func metadata(o object) object { return o["metadata"].(object) }

// list answers with one page. continue is an index.
func (f *fakeCluster) list(w http.ResponseWriter, r *http.Request, all []object, namespace string) {
	var items []object
	for _, o := range all {
		if namespace != "" && metadata(o)["namespace"] != namespace {
			continue
		}
		labels, _ := metadata(o)["labels"].(object)
		if key, value, selects := strings.Cut(r.URL.Query().Get("labelSelector"), "="); selects && labels[key] != value {
			continue
		}
		items = append(items, o)
	}
	begin, next := 0, ""
	_, _ = fmt.Sscan(r.URL.Query().Get("continue"), &begin)
	if end := begin + f.pageSize; f.pageSize > 0 && end < len(items) {
		items, next = items[:end], fmt.Sprint(end)
	}
	w.Header().Set("Content-Type", "application/json")
	f.write(w, object{"kind": "List", "apiVersion": "v1", "metadata": object{"continue": next}, "items": append([]object{}, items[begin:]...)})
}

func (f *fakeCluster) pod(w http.ResponseWriter, namespace, name string) {
	for _, p := range f.pods {
		if metadata(p)["namespace"] == namespace && metadata(p)["name"] == name {
			w.Header().Set("Content-Type", "application/json")
			f.write(w, p)
			return
		}
	}
	f.status(w, http.StatusNotFound, "NotFound", fmt.Sprintf("pods %q not found", name))
}

func (f *fakeCluster) configMap(w http.ResponseWriter, namespace, name string) {
	data := object{}
	for key, text := range f.configMaps {
		if rest, ok := strings.CutPrefix(key, namespace+"/"+name+"/"); ok {
			data[rest] = text
		}
	}
	if len(data) == 0 {
		f.status(w, http.StatusNotFound, "NotFound", fmt.Sprintf("configmaps %q not found", name))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	f.write(w, object{"kind": "ConfigMap", "apiVersion": "v1", "data": data})
}

// forward serves a forwarded port as the kubelet does: SPDY, or SPDY in a WebSocket.
func (f *fakeCluster) forward(w http.ResponseWriter, r *http.Request, handler http.Handler) {
	accept := func(streams chan httpstream.Stream) httpstream.NewStreamHandler {
		return func(s httpstream.Stream, _ <-chan struct{}) error {
			streams <- s
			return nil
		}
	}
	streams := make(chan httpstream.Stream, 2)
	var connection httpstream.Connection
	if websocket.IsWebSocketUpgrade(r) {
		if f.spdyOnly {
			http.Error(w, "no WebSockets here", http.StatusBadRequest)
			return
		}
		upgrader := websocket.Upgrader{Subprotocols: []string{"SPDY/3.1+portforward.k8s.io"}}
		socket, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			f.t.Error(err)
			return
		}
		connection, err = spdy.NewServerConnection(portforward.NewTunnelingConnection("server", socket), accept(streams))
		if err != nil {
			f.t.Error(err)
			return
		}
	} else {
		if _, err := httpstream.Handshake(r, w, []string{"portforward.k8s.io"}); err != nil {
			f.t.Error(err)
			return
		}
		connection = spdy.NewResponseUpgrader().UpgradeResponse(w, r, accept(streams))
	}
	if connection == nil {
		f.t.Error("the connection cannot be upgraded")
		return
	}
	defer func() { _ = connection.Close() }()
	var data, problem httpstream.Stream
	for data == nil || problem == nil {
		select {
		case s := <-streams:
			if s.Headers().Get("streamType") == "data" {
				data = s
			} else {
				problem = s
			}
		case <-connection.CloseChan():
			return
		}
	}
	if handler == nil || data.Headers().Get("port") != "9808" {
		_, _ = io.WriteString(problem, "dial tcp4 127.0.0.1:"+data.Headers().Get("port")+": connect: connection refused")
		_ = problem.Close()
		_ = data.Close()
		<-connection.CloseChan()
		return
	}
	server := httptest.NewServer(handler)
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		f.t.Error(err)
		return
	}
	go func() {
		_, _ = io.Copy(conn, data)
	}()
	_, _ = io.Copy(data, conn)
	_ = data.Close()
	_ = problem.Close()
	<-connection.CloseChan()
}

// kube runs a command of the plugin.
func kube(t *testing.T, kubeconfig string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(t.Context(), "kubectl kvcsi", append(args, "--kubeconfig", kubeconfig), nil, &out, &err)
	return code, out.String(), err.String()
}
