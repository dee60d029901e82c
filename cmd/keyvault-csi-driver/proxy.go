package main

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

// errProxy repeats nothing of the value, in which a password may stand.
var errProxy = errors.New("HTTPS_PROXY: is not the address of a proxy, such as http://proxy.example.org:3128")

// proxyFromEnvironment chooses the proxy of a request by HTTPS_PROXY and NO_PROXY. The library takes an address that it cannot
// read for none, and so would send directly what was meant for the proxy.
func proxyFromEnvironment() (func(*http.Request) (*url.URL, error), error) {
	settings := httpproxy.FromEnvironment()
	if settings.HTTPSProxy != "" && !isProxy(settings.HTTPSProxy) {
		return nil, errProxy
	}
	choose := settings.ProxyFunc()
	return func(r *http.Request) (*url.URL, error) { return choose(r.URL) }, nil
}

// isProxy says whether net/http can use a proxy at the address, a URL or a host with or without a port.
func isProxy(address string) bool {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	return err == nil && u.Hostname() != "" && slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme)
}
