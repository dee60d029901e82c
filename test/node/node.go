// Package node plays one Kubernetes node for tests and benchmarks: the real daemon as a process, a dev cloud that it
// reaches under Azure's own names, and a kubelet that speaks CSI to the daemon's socket.
//
// The daemon under test is the binary that users get. Nothing in it knows that the cloud is not Azure: it finds the
// cloud by HTTPS_PROXY and SSL_CERT_FILE, as it would find a corporate proxy.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

// Options change what a node starts with.
type Options struct {
	Binary string   // the file of the daemon; empty: that of [DaemonBinary]
	Flags  []string // appended to the daemon's own
	Env    []string // appended to the daemon's environment

	Provider bool // serve the Secrets Store CSI Driver too

	// Restrict is called by the thread that starts the daemon, each time. The daemon inherits what the function does to that thread,
	// such as a seccomp filter or fewer capabilities.
	Restrict func() error

	ProxyLogin string // "user:password", of the proxy in the daemon's HTTPS_PROXY; empty: none

	Cloud devcloud.Options // what the cloud starts with
}

// Node is a running daemon and its cloud.
type Node struct {
	kubelet.Kubelet
	Identity csi.IdentityClient

	Cloud  *devcloud.Cloud
	Vault  *devcloud.Vault  // VaultURL
	Issuer *devcloud.Issuer // of the service account tokens
	Dir    string           // everything of this node lies below it
	Socket string           // of CSI
	HTTP   string           // root of health and metrics, "http://127.0.0.1:41001"

	Restrict func() error // see Options; of the next StartDaemon

	args   []string
	env    []string
	output *os.File // removed, so that it goes with the process
	conn   *grpc.ClientConn
	daemon *exec.Cmd
	exited chan struct{}
}

// Start starts a cloud and a daemon beside it, and returns when the daemon answers a Probe.
// Close ends both.
func Start(ctx context.Context, o Options) (n *Node, err error) {
	binary := o.Binary
	if binary == "" {
		if binary, err = DaemonBinary(ctx); err != nil {
			return nil, err
		}
	}
	// Not the test's own temporary folder: a socket's path may have 107 bytes.
	dir, err := os.MkdirTemp("", "kvcsi")
	if err != nil {
		return nil, err
	}
	n = &Node{Dir: dir, Socket: filepath.Join(dir, "csi.sock"), Restrict: o.Restrict}
	n.Root = filepath.Join(dir, "kubelet")
	if err := n.openOutput(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	defer func(n *Node) {
		if err != nil {
			n.Close()
		}
	}(n)
	if err := n.startCloud(ctx, o.Cloud); err != nil {
		return nil, err
	}
	n.env = append(append(os.Environ(),
		"HTTPS_PROXY="+withLogin(n.Cloud.ProxyURL(), o.ProxyLogin),
		"SSL_CERT_FILE="+filepath.Join(dir, "ca.pem"),
		"NO_PROXY=", "no_proxy=", // of the caller's environment; the cloud is only reached by the proxy
	), o.Env...)
	if err := os.MkdirAll(n.Root, 0o750); err != nil {
		return nil, err
	}
	flags := o.Flags
	if o.Provider {
		flags = append([]string{"--provider-socket=" + n.ProviderSocket()}, flags...)
	}
	for range 5 {
		address, err := FreeAddress(ctx)
		if err != nil {
			return n, err
		}
		n.HTTP = "http://" + address
		n.args = append([]string{
			binary,
			"--endpoint=unix://" + n.Socket,
			"--node-id=node-1",
			"--kubelet-root=" + n.Root,
			"--http-address=" + address,
		}, flags...)
		// Another process may have taken the address meanwhile.
		if err = n.StartDaemon(ctx); err == nil || !strings.Contains(n.Output(), "address already in use") {
			return n, err
		}
	}
	return n, fmt.Errorf("no address stays free for the daemon: %s", n.Output())
}

// withLogin puts user and password into a URL.
func withLogin(address, login string) string {
	if login == "" {
		return address
	}
	return strings.Replace(address, "://", "://"+login+"@", 1)
}

// The directory, the identities and the vault that every node's cloud has. The vault is empty; both identities may
// read everything in it.
const (
	Tenant         = "7f0c6a3e-52c1-4a8b-8d0e-9b7c1a2f3e4d"
	WorkloadID     = "11111111-2222-3333-4444-555555555555" // client id, federated with Namespace/ServiceAccount
	Namespace      = "shop"
	ServiceAccount = "web"
	PrincipalID    = "66666666-7777-8888-9999-000000000000" // client id, with PrincipalSecret
	PrincipalName  = "shop-principal"
	VaultName      = "shop"
	VaultURL       = "https://shop.vault.azure.net"

	// PrincipalSecret is the client secret of PrincipalID.
	PrincipalSecret = "principal~client~secret"

	issuerURL = "https://oidc.example.com/node"
)

func (n *Node) startCloud(ctx context.Context, o devcloud.Options) error {
	// A closed listener lives on in a process that this one has just forked, until that calls execve.
	cloud, err := devcloud.Start(context.WithoutCancel(ctx), o)
	for deadline := time.Now().Add(time.Minute); errors.Is(err, syscall.EADDRINUSE) && time.Now().Before(deadline); {
		<-time.After(10 * time.Millisecond)
		cloud, err = devcloud.Start(context.WithoutCancel(ctx), o)
	}
	if err != nil {
		return err
	}
	n.Cloud = cloud
	n.Issuer = cloud.NewIssuer(issuerURL)
	n.Token = func(_ context.Context, v kubelet.Volume) (string, error) {
		return n.Issuer.Token(devcloud.ServiceAccountToken{
			Namespace: v.Namespace, ServiceAccount: v.ServiceAccount, PodName: v.PodName(), PodUID: v.PodUID(), Audience: n.Audience,
		})
	}
	for _, id := range []devcloud.Identity{
		{Tenant: Tenant, ClientID: WorkloadID, Name: "shop-web", Federated: []devcloud.FederatedCredential{
			{Issuer: issuerURL, Subject: "system:serviceaccount:" + Namespace + ":" + ServiceAccount},
		}},
		{Tenant: Tenant, ClientID: PrincipalID, Name: PrincipalName, Secrets: []devcloud.ClientSecret{{Value: PrincipalSecret}}},
	} {
		if err := cloud.AddIdentity(id); err != nil {
			return err
		}
	}
	n.Vault, err = cloud.AddVault(VaultName, devcloud.VaultOptions{Tenant: Tenant})
	if err != nil {
		return err
	}
	n.Vault.Grant(WorkloadID)
	n.Vault.Grant(PrincipalID)
	return os.WriteFile(filepath.Join(n.Dir, "ca.pem"), cloud.CA(), 0o600)
}

// StartDaemon starts the daemon again after StopDaemon, or for the first time.
func (n *Node) StartDaemon(ctx context.Context) error {
	n.daemon = exec.Command(n.args[0], n.args[1:]...) //nolint:gosec,noctx // G204: the binary under test, which outlives ctx
	n.daemon.Env = n.env
	n.daemon.Stdout, n.daemon.Stderr = n.output, n.output
	start := n.daemon.Start
	if n.Restrict != nil {
		start = func() error {
			return OnThread(func() error {
				if err := n.Restrict(); err != nil {
					return err
				}
				return n.daemon.Start()
			})
		}
	}
	if err := start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	n.exited = exited
	go func(daemon *exec.Cmd) {
		_ = daemon.Wait()
		close(exited)
	}(n.daemon)
	if n.conn != nil {
		_ = n.conn.Close()
	}
	conn, err := kubelet.Dial(ctx, n.Socket, exited)
	if err != nil {
		return fmt.Errorf("%w; it wrote: %s", err, n.Output())
	}
	n.conn, n.Driver, n.Identity = conn, csi.NewNodeClient(conn), csi.NewIdentityClient(conn)
	return nil
}

// StopDaemon sends the daemon a signal and waits until it has ended.
func (n *Node) StopDaemon(signal syscall.Signal) (*os.ProcessState, error) {
	if err := n.daemon.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return nil, err
	}
	<-n.exited
	return n.daemon.ProcessState, nil
}

// Close ends the daemon and the cloud and removes the node's folder with whatever is still mounted in it.
func (n *Node) Close() {
	if n.exited != nil {
		_, _ = n.StopDaemon(syscall.SIGKILL)
	}
	if n.conn != nil {
		_ = n.conn.Close()
	}
	if n.Cloud != nil {
		n.Cloud.Close()
	}
	mounts, _ := kubelet.Mounts(n.Dir)
	for _, m := range mounts {
		_ = syscall.Unmount(m.Target, syscall.MNT_DETACH)
	}
	_ = os.RemoveAll(n.Dir)
}

// PID is the daemon's process id.
func (n *Node) PID() int { return n.daemon.Process.Pid }

// Binary is the path of the daemon under test.
func (n *Node) Binary() string { return n.args[0] }

// openOutput opens the file for what the daemon writes. With a pipe, a test could read before the last line has arrived.
func (n *Node) openOutput() (err error) {
	path := filepath.Join(n.Dir, "output")
	if n.output, err = os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR|os.O_APPEND, 0o600); err != nil { //nolint:gosec // G304: our own folder
		return err
	}
	return os.Remove(path)
}

// Output is everything that the daemon has written to standard output and standard error.
func (n *Node) Output() string {
	text, err := io.ReadAll(io.NewSectionReader(n.output, 0, math.MaxInt64))
	if err != nil {
		return err.Error()
	}
	return string(text)
}
