package devcloud

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// ServerCertificate is what a vault shows in a TLS handshake.
type ServerCertificate string

// The certificates. All but the first are to be refused by a client.
const (
	ProperCertificate    ServerCertificate = ""
	UntrustedCertificate ServerCertificate = "untrusted" // of an authority that nobody knows
	ForeignCertificate   ServerCertificate = "foreign"   // of the right authority, for another host
	ExpiredCertificate   ServerCertificate = "expired"   // of the right authority, which ended yesterday
	EarlyCertificate     ServerCertificate = "early"     // of the right authority, which begins tomorrow
)

// foreignHost is whom a ForeignCertificate is for.
const foreignHost = "portal.example.com"

// SetServerCertificate chooses what the vault shows from the next handshake on. Connections that are there stay as they
// are: see [Cloud.Disconnect].
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

// SetClock puts the vault's clock ahead of that of the rest of the cloud, or behind it: it then takes tokens for expired,
// or for not yet valid.
func (v *Vault) SetClock(ahead time.Duration) {
	v.cloud.mu.Lock()
	defer v.cloud.mu.Unlock()
	v.ahead = ahead
}

// now is the vault's clock.
func (v *Vault) now() time.Time {
	v.cloud.mu.Lock()
	ahead := v.ahead
	v.cloud.mu.Unlock()
	return v.cloud.now().Add(ahead)
}

// certificateFor answers a handshake. An unknown name ends it: in Azure it would not have resolved.
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

// Disconnect ends the TLS connections to a vault or login host, those under use included, as a load balancer does that
// is replaced; an empty host stands for all.
func (c *Cloud) Disconnect(host string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn, name := range c.connections {
		if host == "" || strings.EqualFold(host, name) {
			_ = conn.Close()
		}
	}
}

// connected is the ConnState of the TLS server: it keeps the connections with the names that they were made for.
func (c *Cloud) connected(conn net.Conn, state http.ConnState) {
	secure, ok := conn.(*tls.Conn)
	if !ok {
		return
	}
	switch state {
	case http.StateActive: // the first is after the handshake
		name := secure.ConnectionState().ServerName
		c.mu.Lock()
		defer c.mu.Unlock()
		c.connections[secure.NetConn()] = name
	case http.StateClosed, http.StateHijacked:
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.connections, secure.NetConn())
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
