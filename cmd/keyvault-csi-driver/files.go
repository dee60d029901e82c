package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	_ "golang.org/x/crypto/x509roots/fallback" // the image has no certificates of its own
)

// loadRoots gives the machine's certificate authorities with those of file added. crypto/x509 itself honours
// SSL_CERT_FILE and SSL_CERT_DIR, and takes the built-in roots where the machine has none.
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
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--ca-bundle: %s holds no certificate in PEM form", file)
	}
	return roots, nil
}

// maxFile bounds the files that are read while the daemon runs. A ConfigMap, which a policy is, holds at most 1 MiB.
const maxFile = 1 << 20

// readFile reads a whole file of at most maxFile bytes. Its error does not name the file: whoever repeats it does.
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
