package keyvault

import (
	"context"
	"net"
	"net/http"
)

// DialMetadata makes the client's requests to the metadata service go to another address than Azure's.
func (c *Client) DialMetadata(address string) {
	c.metadata.http.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
}

// Cached gives the bytes of the cache.
func (c *Client) Cached() int { return c.cache.size() }

// Waiting counts those who wait for a fetch.
func (c *Client) Waiting() (count int) {
	c.cache.mu.Lock()
	defer c.cache.mu.Unlock()
	for _, f := range c.cache.flights {
		count += f.waiting
	}
	return count
}

// Decodings counts those that were begun.
func (c *Client) Decodings() int {
	c.decoder.mu.Lock()
	defer c.decoder.mu.Unlock()
	return c.decoder.begun
}

// Decoded counts the decodings that are remembered.
func (c *Client) Decoded() int {
	c.decoder.mu.Lock()
	defer c.decoder.mu.Unlock()
	return len(c.decoder.known)
}

// Known counts the logins, their clients of vaults, and the pods that have proven themselves or were refused.
func (c *Client) Known() (logins, sessions, pods int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.logins {
		pods += len(l.value.proofs.pods)
	}
	return len(c.logins), len(c.sessions), pods
}
