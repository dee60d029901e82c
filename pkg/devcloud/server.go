package devcloud

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// ServerCertificate is which certificate a vault sends in a TLS handshake.
type ServerCertificate string

// The certificates. A client must refuse all but the first.
const (
	ProperCertificate    ServerCertificate = ""
	UntrustedCertificate ServerCertificate = "untrusted" // of an unknown authority
	ForeignCertificate   ServerCertificate = "foreign"   // of the right authority, for another host
	ExpiredCertificate   ServerCertificate = "expired"   // of the right authority, expired yesterday
	EarlyCertificate     ServerCertificate = "early"     // of the right authority, valid from tomorrow
)

// foreignHost is the name in a ForeignCertificate.
const foreignHost = "portal.example.com"

// SetServerCertificate sets the certificate of the vault from the next handshake on. Open connections stay: see
// [Cloud.Disconnect].
func (v *Vault) SetServerCertificate(kind ServerCertificate) error {
	switch kind {
	case ProperCertificate, UntrustedCertificate, ForeignCertificate, ExpiredCertificate, EarlyCertificate:
	default:
		return fmt.Errorf("devcloud: no server certificate %q", kind)
	}
	v.cloud.mu.Lock()
	defer v.cloud.mu.Unlock()
	v.shows = kind
	return nil
}

// SetClock sets how far the vault's clock is ahead of the rest of the cloud, or behind it if negative. The vault then
// refuses tokens as expired, or as not yet valid.
func (v *Vault) SetClock(ahead time.Duration) {
	v.cloud.mu.Lock()
	defer v.cloud.mu.Unlock()
	v.ahead = ahead
}

// now is the vault's clock.
func (v *Vault) now() time.Time {
	v.cloud.mu.Lock()
	defer v.cloud.mu.Unlock()
	return v.cloud.now().Add(v.ahead)
}

// changed is the time of a change now. As recorded, it is rounded, so that it can be a second later than the Date of the
// answer. The caller must hold cloud.mu.
func (v *Vault) changed() time.Time { return v.cloud.now().Add(v.ahead).Round(time.Second) }

// certificateFor returns the certificate of a name. An unknown name is an error: in Azure it does not resolve.
func (c *Cloud) certificateFor(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if err := c.resolves(hello.ServerName); err != nil {
		return nil, err
	}
	c.mu.Lock()
	shows := ProperCertificate
	if v := c.vaults[hello.ServerName]; v != nil {
		shows = v.shows
	}
	c.mu.Unlock()
	const day = 24 * time.Hour
	switch now := time.Now(); shows {
	case UntrustedCertificate:
		stranger, err := newAuthority()
		if err != nil {
			return nil, err
		}
		return stranger.leaf(hello.ServerName)
	case ForeignCertificate:
		return c.authority.leaf(foreignHost)
	case ExpiredCertificate:
		return c.authority.issue(hello.ServerName, now.Add(-2*day), now.Add(-day))
	case EarlyCertificate:
		return c.authority.issue(hello.ServerName, now.Add(day), now.Add(2*day))
	default:
		return c.authority.leaf(hello.ServerName)
	}
}

// Disconnect ends the TLS connections to a vault or login host, also those in use, like a load balancer that is replaced.
// An empty host means all, and those to the metadata service and the proxy.
func (c *Cloud) Disconnect(host string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn, name := range c.connections {
		if host == "" || strings.EqualFold(host, name) {
			_ = conn.Close()
		}
	}
}

// connected is the ConnState of all servers but the admin's. It keeps the open connections with their server names.
func (c *Cloud) connected(conn net.Conn, state http.ConnState) {
	name := ""
	if secure, ok := conn.(*tls.Conn); ok {
		conn, name = secure.NetConn(), secure.ConnectionState().ServerName
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateActive: // the first is after the handshake
		c.connections[conn] = name
	case http.StateClosed, http.StateHijacked:
		delete(c.connections, conn)
	}
}

func (c *Cloud) adminClock(in struct {
	Vault string
	Ahead duration
}) (any, error) {
	v, err := c.named(in.Vault)
	if err != nil {
		return nil, err
	}
	v.SetClock(time.Duration(in.Ahead))
	return done, nil
}

func (c *Cloud) adminServerCertificate(in struct {
	Vault string
	Shows ServerCertificate
}) (any, error) {
	v, err := c.named(in.Vault)
	if err != nil {
		return nil, err
	}
	return done, v.SetServerCertificate(in.Shows)
}

type connKey struct{}

// withConn is the ConnContext of the servers. It makes the connection of a request available to faults.
func withConn(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, conn)
}

// resetConnection sends the client a TCP RST. With HTTP/2 that ends all requests of the connection, as in reality.
func resetConnection(r *http.Request) {
	conn, _ := r.Context().Value(connKey{}).(net.Conn)
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
		_ = tcp.Close()
	}
}
