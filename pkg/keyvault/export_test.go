package keyvault

import (
	"context"
	"net"
	"net/http"
)

// DialMetadata redirects the requests to the metadata service to another address.
func (c *Client) DialMetadata(address string) {
	c.metadata.HTTP.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
}

// Cached returns the bytes of the cache.
func (c *Client) Cached() int { return c.cache.Size() }

// Waiting counts the callers that wait for a fetch.
func (c *Client) Waiting() int { return c.cache.Waiting() }

// Known counts the logins, and the pods with a proof or a refusal.
func (c *Client) Known() (logins, pods int) { return c.logins.Known() }

// Decodings counts the decodings that have begun.
func (c *Client) Decodings() int { return int(c.decoders.Begun.Load()) }
