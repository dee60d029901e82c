package driver

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
)

// maxConns bounds the connections to health and metrics. A kubelet and a Prometheus need three. But every pod of a cluster
// can reach the port, and a connection costs some 35 KiB.
const maxConns = 256

// connLimiter closes a connection if there are too many: the oldest one of the client that has the most. So no client can
// close the connections of others, such as those of the kubelet's probes, which would then restart the driver. A limit that
// lets new connections wait (netutil.LimitListener) would let one client keep out all others.
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
			oldest := l.oldest()
			_ = l.conns[oldest].Close()
			l.conns = slices.Delete(l.conns, oldest, oldest+1)
		}
		l.conns = append(l.conns, conn)
	case http.StateClosed:
		l.conns = slices.DeleteFunc(l.conns, func(other net.Conn) bool { return other == conn })
	}
}

// oldest returns the index of the oldest connection of the client that has the most.
func (l *connLimiter) oldest() int {
	count, most := map[netip.Addr]int{}, 0
	for _, conn := range l.conns {
		count[client(conn)]++
		most = max(most, count[client(conn)])
	}
	return slices.IndexFunc(l.conns, func(conn net.Conn) bool { return count[client(conn)] == most })
}

func client(conn net.Conn) netip.Addr {
	peer, _ := conn.RemoteAddr().(*net.TCPAddr) // nil has the zero address
	return peer.AddrPort().Addr()
}
