package faults_test

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// world is a node, and what stands between it and its cloud.
type world struct {
	*node.Node
	atOnce  int    // faults under way at the same time
	managed bool   // its volumes have managed identities
	relay   *relay // see the places
	names   *names
	lives   sync.Map // of service account tokens that are not the usual ones: kubelet.Volume.Name -> life

	cells atomic.Int64
}

// place is a kind of node, at which some of the faults can be had.
type place struct {
	name       string
	neighbours bool // whether faults of some vaults leave others alone
	start      func(t *testing.T) *world
}

// shortLife of a token is less than the daemon wants to have left when it sends one, so that every fetch logs in.
const shortLife = 20 * time.Second

var places = []place{
	{"vault", true, func(t *testing.T) *world {
		return start(t, node.Options{})
	}},
	{"login", true, func(t *testing.T) *world {
		return start(t, node.Options{Cloud: devcloud.Options{TokenLife: shortLife}})
	}},
	{"shared", false, func(t *testing.T) *world {
		return start(t, node.Options{Cloud: devcloud.Options{TokenLife: shortLife}})
	}},
	{"proxy", false, func(t *testing.T) *world {
		r := newRelay(t, "127.0.0.1:0")
		w := launch(t, node.Options{Env: []string{"HTTPS_PROXY=http://" + r.address}})
		r.to(strings.TrimPrefix(w.Cloud.ProxyURL(), "http://"))
		w.relay = r
		return w.warmed(t)
	}},
	{"direct", true, func(t *testing.T) *world {
		needsNetwork(t)
		names := newNames(t)
		w := start(t, node.Options{Env: []string{"HTTPS_PROXY="}, Cloud: devcloud.Options{Listen: "127.0.0.1:443"}})
		w.names = names
		return w
	}},
	{"metadata", false, func(t *testing.T) *world {
		needsNetwork(t)
		metadataOwner.Lock()
		t.Cleanup(metadataOwner.Unlock)
		r := newRelay(t, node.MetadataAddress+":80")
		w := start(t, node.Options{Flags: []string{managedAllowed(t)}, Cloud: devcloud.Options{TokenLife: shortLife}})
		r.to(strings.TrimPrefix(w.Cloud.IMDSURL(), "http://"))
		w.relay, w.managed, w.atOnce = r, true, 3 // the daemon has four connections to the service
		return w
	}},
}

// managedAllowed is the flag of a policy that lets everybody use managed identities, and wants to know which one answers.
func managedAllowed(t *testing.T) (flag string) {
	t.Helper()
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy, []byte(`rules: [{namespaces: ["*"], identities: [managed, workload], clientIDs: ["*-*"]}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	return "--policy-file=" + policy
}

// metadataOwner is who has the address of the metadata service; there can be but one at a time.
var metadataOwner sync.Mutex

func needsNetwork(t *testing.T) {
	t.Helper()
	if why := node.NoNetwork(); why != "" {
		t.Skip("no network of its own: ", why)
	}
}

func start(t *testing.T, o node.Options) *world {
	t.Helper()
	return launch(t, o).warmed(t)
}

func launch(t *testing.T, o node.Options) *world {
	t.Helper()
	// A first publish always asks, so that it always meets the fault.
	o.Flags = append(o.Flags, "--mount-max-age=0")
	n := node.New(t, o)
	w := &world{Node: n, atOnce: 10}
	// One token for all, as far as they are the usual ones: to sign it is most of what a call costs.
	usual, err := n.Issuer.Token(tokenTimes{0, 24 * time.Hour}.of(neighbour("any")))
	if err != nil {
		t.Fatal(err)
	}
	n.Token = func(_ context.Context, v kubelet.Volume) (string, error) {
		if times, ok := w.lives.Load(v.Name); ok {
			return n.Issuer.Token(times.(tokenTimes).of(v))
		}
		return usual, nil
	}
	return w
}

// warmed is the node when everything that is made once is there.
func (w *world) warmed(t *testing.T) *world {
	t.Helper()
	w.Vault.SetSecret("value", "healthy", devcloud.SecretOptions{})
	v := neighbour("warm")
	w.MustPublish(t, v)
	w.MustUnpublish(t, v)
	return w
}

// neighbour is a volume that has nothing to do with the faults.
func neighbour(name string) kubelet.Volume { return node.Volume(name, "secrets", "value") }

// relay hands connections on to an address, or not.
type relay struct {
	t       *testing.T
	address string

	mu       sync.Mutex
	backend  string
	mute     bool // takes connections and says nothing
	listener net.Listener
	conns    map[net.Conn]bool
	running  sync.WaitGroup
}

func newRelay(t *testing.T, address string) *relay {
	t.Helper()
	r := &relay{t: t, address: address, conns: map[net.Conn]bool{}}
	r.up()
	t.Cleanup(func() { r.down(); r.running.Wait() })
	return r
}

func (r *relay) to(backend string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.backend = backend
}

func (r *relay) up() {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", r.address)
	if err != nil {
		r.t.Error(err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listener, r.address = listener, listener.Addr().String()
	r.running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			r.running.Go(func() { r.serve(conn) })
		}
	})
}

// down refuses connections from now on, and ends those that are there.
func (r *relay) down() {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.listener.Close()
	for conn := range r.conns {
		_ = conn.Close()
	}
}

// silence ends the connections that are there; those that come from now on get no answer and no end, or are served again.
func (r *relay) silence(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mute = on
	for conn := range r.conns {
		_ = conn.Close()
	}
}

func (r *relay) serve(conn net.Conn) {
	r.mu.Lock()
	backend, mute := r.backend, r.mute
	r.conns[conn] = true
	r.mu.Unlock()
	defer func() {
		_ = conn.Close()
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.conns, conn)
	}()
	if mute {
		_, _ = io.Copy(io.Discard, conn)
		return
	}
	other, err := new(net.Dialer).Dial("tcp", backend)
	if err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(other, conn)
		_ = other.Close()
	}()
	_, _ = io.Copy(conn, other)
	_ = conn.Close()
	<-done
}

// names is the node's DNS. A name that nobody has said anything about is that of the cloud.
type names struct {
	mu    sync.Mutex
	wrong map[string]wrongName // by host
}

type wrongName struct {
	address [4]byte          // where the name leads
	code    dnsmessage.RCode // or what is said in its place
	silent  bool             // or nothing at all
}

// newNames serves DNS at the usual port, and makes it what the machine asks, for whoever sees its mounts.
func newNames(t *testing.T) *names {
	t.Helper()
	n := &names{wrong: map[string]wrongName{}}
	conn, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); n.serve(conn) }()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver 127.0.0.1\noptions timeout:10 attempts:1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(file, "/etc/resolv.conf", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount("/etc/resolv.conf", unix.MNT_DETACH) })
	return n
}

func (n *names) set(host string, w wrongName) (clear func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wrong[host+"."] = w
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.wrong, host+".")
	}
}

func (n *names) serve(conn net.PacketConn) {
	packet := make([]byte, 1500)
	for {
		size, from, err := conn.ReadFrom(packet)
		if err != nil {
			return
		}
		var question dnsmessage.Message
		if question.Unpack(packet[:size]) != nil || len(question.Questions) != 1 {
			continue
		}
		asked := question.Questions[0]
		n.mu.Lock()
		said, ok := n.wrong[strings.ToLower(asked.Name.String())]
		n.mu.Unlock()
		if !ok {
			said = wrongName{address: [4]byte{127, 0, 0, 1}}
		}
		if said.silent {
			continue
		}
		answer := dnsmessage.Message{
			Header:    dnsmessage.Header{ID: question.ID, Response: true, RecursionAvailable: true, RecursionDesired: true, RCode: said.code},
			Questions: question.Questions,
		}
		if said.code == dnsmessage.RCodeSuccess && asked.Type == dnsmessage.TypeA {
			answer.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: asked.Name, Class: dnsmessage.ClassINET, TTL: 1},
				Body:   &dnsmessage.AResource{A: said.address},
			}}
		}
		if text, err := answer.Pack(); err == nil {
			_, _ = conn.WriteTo(text, from)
		}
	}
}
