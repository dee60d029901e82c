package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

// startDevCloud returns when the screen has been written, which is when everything is up.
func startDevCloud(t *testing.T, args ...string) (screen string, end func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, "kvcsi", append([]string{"dev-cloud"}, args...), nil, writer, writer)
		_ = writer.Close()
	}()
	var text bytes.Buffer
	buffer := make([]byte, 1<<16)
	for !strings.Contains(text.String(), "/counts\n") && !strings.Contains(text.String(), "fills it") {
		n, err := reader.Read(buffer)
		text.Write(buffer[:n])
		if err != nil {
			t.Fatalf("ended early: %s", text.String())
		}
	}
	go func() { _, _ = io.Copy(io.Discard, reader) }()
	return text.String(), func() int {
		cancel()
		return <-code
	}
}

// A client that has only the files of the folder logs in and reads a secret under the real names.
func TestDevCloud(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cloud")
	screen, end := startDevCloud(t, "--dir", dir)
	if !strings.Contains(screen, "https://shop.vault.azure.net") || !strings.Contains(screen, ". "+dir+"/env\n") {
		t.Errorf("%s", screen)
	}
	env := map[string]string{}
	for line := range strings.Lines(read(t, filepath.Join(dir, "env"))) {
		key, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		env[key] = value
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(read(t, env["SSL_CERT_FILE"]))) {
		t.Error("the CA is no PEM")
	}
	proxy, err := url.Parse(env["HTTPS_PROXY"])
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	form := url.Values{
		"grant_type": {"client_credentials"}, "scope": {"https://vault.azure.net/.default"}, "client_id": {devcloud.SeedWorkload},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {read(t, filepath.Join(dir, "token"))},
	}
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost,
		"https://login.microsoftonline.com/"+env["AZURE_TENANT_ID"]+"/oauth2/v2.0/token", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer := do(t, transport, r)
	_, token, _ := strings.Cut(answer, `"access_token":"`)
	token, _, _ = strings.Cut(token, `"`)
	r, _ = http.NewRequestWithContext(t.Context(), http.MethodGet, "https://shop.vault.azure.net/secrets/db-password?api-version=7.4", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	if got := do(t, transport, r); !strings.Contains(got, `"value":"correct horse battery staple"`) {
		t.Errorf("%s", got)
	}
	if code := end(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(filepath.Join(dir, "ca.pem")); err != nil {
		t.Errorf("the folder that was named does not stay: %v", err)
	}
}

func TestDevCloudEmpty(t *testing.T) {
	t.Parallel()
	screen, end := startDevCloud(t, "--empty")
	if strings.Contains(screen, "shop") {
		t.Errorf("%s", screen)
	}
	_, rest, _ := strings.Cut(screen, "files      ")
	dir, _, _ := strings.Cut(rest, " ")
	if _, err := os.Stat(filepath.Join(dir, "ca.pem")); err != nil {
		t.Error(err)
	}
	if code := end(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the temporary folder stays: %v", err)
	}
}

func TestDevCloudRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--port=1"}, exitUsage, "flag provided but not defined: -port"},
		{[]string{"extra"}, exitUsage, `kvcsi dev-cloud: unexpected argument "extra"`},
		{[]string{"--listen", "nowhere"}, exitError, "kvcsi dev-cloud: listen tcp: address nowhere: missing port in address"},
		{[]string{"--help"}, exitOK, "kvcsi dev-cloud runs a Key Vault"},
	} {
		var stdout, stderr strings.Builder
		if code := run(t.Context(), "kvcsi", append([]string{"dev-cloud"}, test.args...), nil, &stdout, &stderr); code != test.code || !strings.HasPrefix(stdout.String()+stderr.String(), test.want) {
			t.Errorf("%v: %d %s%s", test.args, code, stdout.String(), stderr.String())
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func do(t *testing.T, transport http.RoundTripper, r *http.Request) string {
	t.Helper()
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
