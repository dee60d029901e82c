package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	_ "golang.org/x/crypto/x509roots/fallback" // the image has no certificates of its own
	"golang.org/x/net/http/httpproxy"

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/certificate"
)

// loadRoots returns the certificate authorities of the machine and those of file. crypto/x509 itself uses SSL_CERT_FILE and
// SSL_CERT_DIR, and the built-in roots if the machine has none.
func loadRoots(file string) (*x509.CertPool, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("read the machine's certificate authorities: %w", err)
	}
	if file == "" {
		return roots, nil
	}
	pem, err := os.ReadFile(file) //nolint:gosec // G304: the operator names the file
	if err != nil {
		return nil, fmt.Errorf("--ca-bundle: %w", err)
	}
	found, err := certificate.ParseCAs(pem)
	if err != nil {
		return nil, fmt.Errorf("--ca-bundle: %s %w", file, err)
	}
	for _, cert := range found {
		roots.AddCert(cert)
	}
	return roots, nil
}

// maxFile bounds the files that are read while the daemon runs. A policy is in a ConfigMap, which holds at most 1 MiB.
const maxFile = 1 << 20

// readFile reads a whole file of at most maxFile bytes. Its error does not name the file, because the callers do.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name) //nolint:gosec // G304: the operator names the file, or the cluster's own file does
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, path.Err
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = fmt.Errorf("has more than %d bytes", maxFile)
	}
	return content, err
}

// proxyFromEnvironment returns the choice of HTTPS_PROXY and NO_PROXY. It checks the address, because httpproxy uses no
// proxy if it cannot parse it. The error must not repeat the address, which may hold a password.
func proxyFromEnvironment() (func(*http.Request) (*url.URL, error), error) {
	settings := httpproxy.FromEnvironment()
	if address := settings.HTTPSProxy; address != "" {
		if !strings.Contains(address, "://") {
			address = "http://" + address
		}
		u, err := url.Parse(address)
		if err != nil || u.Hostname() == "" || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) {
			return nil, errors.New("HTTPS_PROXY: is not the address of a proxy, such as http://proxy.example.org:3128")
		}
	}
	choose := settings.ProxyFunc()
	return func(r *http.Request) (*url.URL, error) { return choose(r.URL) }, nil
}
