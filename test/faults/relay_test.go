package faults_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
)

// relay forwards connections to an address.
type relay struct {
	t       *testing.T
	address string

	mu       sync.Mutex
	backend  string
	mute     bool // accepts connections and does not answer
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
	var listener net.Listener
	var err error
	// A process that starts at this moment holds a copy of every descriptor until its exec, also of a listener that is closed here.
	suite.Eventually(r.t, r.address+" is free", func() bool {
		listener, err = new(net.ListenConfig).Listen(context.Background(), "tcp", r.address)
		return !errors.Is(err, syscall.EADDRINUSE)
	})
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

// down refuses new connections, and closes the open ones.
func (r *relay) down() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listener != nil {
		_ = r.listener.Close()
	}
	for conn := range r.conns {
		_ = conn.Close()
	}
}

// setMute closes the open connections. While it is on, new ones get no answer.
func (r *relay) setMute(on bool) {
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
