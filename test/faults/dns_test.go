package faults_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// dnsServer is the node's DNS. Names without an entry lead to the cloud.
type dnsServer struct {
	mu    sync.Mutex
	wrong map[string]dnsAnswer // by host
}

type dnsAnswer struct {
	address [4]byte          // of the name
	code    dnsmessage.RCode // or an error
	silent  bool             // or no answer
}

// newDNS serves DNS at the usual port, and mounts a resolv.conf in this mount namespace that names it.
func newDNS(t *testing.T) *dnsServer {
	t.Helper()
	n := &dnsServer{wrong: map[string]dnsAnswer{}}
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

func (n *dnsServer) set(host string, answer dnsAnswer) (clear func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wrong[host+"."] = answer
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.wrong, host+".")
	}
}

func (n *dnsServer) serve(conn net.PacketConn) {
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
			said = dnsAnswer{address: [4]byte{127, 0, 0, 1}}
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
