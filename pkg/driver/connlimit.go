package driver

import (
	"net"
	"net/http"
	"slices"
	"sync"
)

// maxConns bounds the connections to health and metrics. A kubelet and a Prometheus need three. But every pod of a cluster
// can reach the port, and a connection costs some 35 KiB.
const maxConns = 256

// connLimiter closes the oldest connection if there are too many. A limit that lets new connections wait
// (netutil.LimitListener) would let one client keep out all others.
type connLimiter struct {
	mu    sync.Mutex
	conns []net.Conn // the oldest first
}

// track is the [http.Server.ConnState] of the server.
func (l *connLimiter) track(conn net.Conn, state http.ConnState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch state {
	case http.StateNew:
		if len(l.conns) == maxConns {
			_ = l.conns[0].Close()
			l.conns = slices.Delete(l.conns, 0, 1)
		}
		l.conns = append(l.conns, conn)
	case http.StateClosed:
		l.conns = slices.DeleteFunc(l.conns, func(other net.Conn) bool { return other == conn })
	}
}
