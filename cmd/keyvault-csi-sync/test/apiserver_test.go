// Package sync_test runs keyvault-csi-sync as a process against a real kube-apiserver with etcd, and plays the node driver: it replaces the
// files of a folder as the driver does. `make sync-test` builds the servers; without them these tests are skipped.
package sync_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// server is a kube-apiserver with etcd. Nothing else of Kubernetes runs: no controller deletes a namespace or counts a quota.
type server struct {
	dir    string
	host   string // 127.0.0.1:PORT
	client *http.Client
}

// api is shared by all tests; each has a namespace of its own.
var api *server

// binary is the program under test.
var binary string

// skipped says why there is no API server.
var skipped string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "kvcsi-sync-")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(os.Getenv("KEYVAULT_CSI_BIN"), "keyvault-csi-sync")
	if os.Getenv("KEYVAULT_CSI_BIN") == "" {
		binary = filepath.Join(dir, "keyvault-csi-sync")
		build := exec.Command("go", "build", "-o", binary, "..")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Printf("go build: %v\n%s", err, out)
			return 1
		}
	}
	programs := os.Getenv("KEYVAULT_CSI_KUBERNETES")
	if programs == "" {
		skipped = "needs kube-apiserver and etcd: make sync-test"
		return m.Run()
	}
	ctx, stop := context.WithCancel(context.Background())
	var ended []<-chan struct{}
	api, ended, err = startServer(ctx, programs, dir)
	status := 1
	if err == nil {
		status = m.Run()
	} else {
		fmt.Println(err)
	}
	stop()
	for _, end := range ended {
		<-end
	}
	return status
}

func startServer(ctx context.Context, programs, dir string) (*server, []<-chan struct{}, error) {
	ports, err := freePorts(3)
	if err != nil {
		return nil, nil, err
	}
	s := &server{dir: dir, host: "127.0.0.1:" + ports[2]}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	account := filepath.Join(dir, "account.key")
	if err := os.WriteFile(account, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return nil, nil, err
	}
	// Each namespace has a service account "sync" and its token "sync-NAMESPACE".
	var tokens strings.Builder
	fmt.Fprintln(&tokens, `admin,admin,admin,"system:masters"`)
	for i := range namespaces {
		fmt.Fprintf(&tokens, "sync-test%d,system:serviceaccount:test%d:sync,sync%d,\"system:serviceaccounts\"\n", i, i, i)
	}
	if err := os.WriteFile(filepath.Join(dir, "tokens.csv"), []byte(tokens.String()), 0o600); err != nil {
		return nil, nil, err
	}
	// Each request of a service account is recorded.
	const policy = `{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["ResponseStarted", "ResponseComplete", "Panic"],
		"rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}]}`
	if err := os.WriteFile(filepath.Join(dir, "audit.json"), []byte(policy), 0o600); err != nil {
		return nil, nil, err
	}
	etcd := "http://127.0.0.1:" + ports[0]
	peer := "http://127.0.0.1:" + ports[1]
	var ended []<-chan struct{}
	for _, command := range [][]string{
		{
			"etcd", "--data-dir=" + dir + "/etcd", "--unsafe-no-fsync", "--listen-client-urls=" + etcd, "--advertise-client-urls=" + etcd,
			"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=default=" + peer,
		},
		{
			"kube-apiserver", "--etcd-servers=" + etcd, "--bind-address=127.0.0.1", "--secure-port=" + ports[2], "--cert-dir=" + dir + "/certs",
			"--token-auth-file=" + dir + "/tokens.csv", "--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/24",
			"--service-account-issuer=https://test", "--service-account-signing-key-file=" + account, "--service-account-key-file=" + account,
			"--disable-admission-plugins=ServiceAccount", "--audit-policy-file=" + dir + "/audit.json", "--audit-log-path=" + dir + "/audit.log",
		},
	} {
		end, err := start(ctx, dir, filepath.Join(programs, command[0]), command[1:]...)
		if err != nil {
			return nil, ended, err
		}
		ended = append(ended, end)
	}
	err = s.await(ctx, ended[1])
	return s, ended, err
}

// start starts a program, with its log in dir.
func start(ctx context.Context, dir, program string, args ...string) (<-chan struct{}, error) {
	log, err := os.Create(filepath.Join(dir, filepath.Base(program)+".log"))
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, program, args...)
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		return nil, err
	}
	end := make(chan struct{})
	go func() { _ = command.Wait(); close(end) }()
	return end, nil
}

// await waits until the server is ready.
func (s *server) await(ctx context.Context, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if certificate, err := os.ReadFile(s.dir + "/certs/apiserver.crt"); err == nil {
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(certificate)
			s.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}
			if _, err := s.do(ctx, "admin", http.MethodGet, "/readyz", "", nil, nil); err == nil {
				return nil
			}
		}
		select {
		case <-tick.C:
			continue
		case <-ended:
		case <-ctx.Done():
		}
		log, _ := os.ReadFile(s.dir + "/kube-apiserver.log")
		return fmt.Errorf("kube-apiserver has ended, or is not ready after two minutes:\n%s", log[max(0, len(log)-4000):])
	}
}

// do sends a request with the token. The answer is an error unless it is 2xx.
func (s *server) do(ctx context.Context, token, method, path, kind string, in, out any) (int, error) {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return 0, err
		}
		body = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, "https://"+s.host+path, body)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	if kind == "" {
		kind = "application/json"
	}
	request.Header.Set("Content-Type", kind)
	answer, err := s.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err
	}
	if answer.StatusCode/100 != 2 {
		return answer.StatusCode, fmt.Errorf("%s %s: HTTP %d: %s", method, path, answer.StatusCode, text)
	}
	if raw, ok := out.(*[]byte); ok {
		*raw = text
		return answer.StatusCode, nil
	}
	if out != nil {
		return answer.StatusCode, json.Unmarshal(text, out)
	}
	return answer.StatusCode, nil
}

func freePorts(n int) (ports []string, err error) {
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		_, port, _ := net.SplitHostPort(listener.Addr().String())
		ports = append(ports, port)
		if err := listener.Close(); err != nil {
			return nil, err
		}
	}
	return ports, nil
}
