package keyvault

import (
	"context"
	"net"
	"net/http"
)

// DialMetadata makes the client's requests to the metadata service go to another address than Azure's.
func (c *Client) DialMetadata(address string) {
	c.metadata.HTTP.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
}

// Cached gives the bytes of the cache.
func (c *Client) Cached() int { return c.cache.Size() }

// Waiting counts those who wait for a fetch.
func (c *Client) Waiting() int { return c.cache.Waiting() }

// Known counts the logins, and the pods that have proven themselves or were refused.
func (c *Client) Known() (logins, pods int) { return c.logins.Known() }

// Decodings counts the decodings that were begun.
func (c *Client) Decodings() int { return int(c.decoders.begun.Load()) }
