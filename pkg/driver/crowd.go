package driver

import (
	"container/list"
	"net"
	"sync"
)

// maxCrowd bounds the connections to health and metrics. A kubelet and a Prometheus need three; but every pod of a cluster
// can reach the port, and with enough connections, which cost some 35 KiB each, could have the process killed for its memory.
const maxCrowd = 256

// crowd accepts connections and closes the oldest where there are too many: so whoever holds many holds nobody off, and an
// answer, which takes milliseconds, still comes.
type crowd struct {
	net.Listener

	mu   sync.Mutex
	held list.List // of *guest, the oldest first
}

func (c *crowd) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	g := &guest{Conn: conn, of: c}
	if oldest := c.enter(g); oldest != nil {
		_ = oldest.Conn.Close() // the server then closes its own side, and with it the guest leaves
	}
	return g, nil
}

// enter gives the oldest guest where there is one too many.
func (c *crowd) enter(g *guest) (oldest *guest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g.place = c.held.PushBack(g)
	if c.held.Len() <= maxCrowd {
		return nil
	}
	oldest, _ = c.held.Remove(c.held.Front()).(*guest)
	return oldest
}

// guest is a connection that leaves the crowd when it is closed.
type guest struct {
	net.Conn
	of    *crowd
	place *list.Element
}

func (g *guest) Close() error {
	g.of.mu.Lock()
	g.of.held.Remove(g.place) // does nothing where it has been removed already
	g.of.mu.Unlock()
	return g.Conn.Close()
}
