// Package ipv6_test runs the driver and the demo on a node without IPv4: the only address of its network is ::1.
package ipv6_test

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

func TestMain(m *testing.M) { os.Exit(mountns.Main(node.Networked{M: m, WithoutIPv4: true})) }

const loginHost = "login.microsoftonline.com"

// without ends a test where there is no network namespace, or where it has an IPv4 address after all.
func without(t *testing.T) {
	t.Helper()
	if why := node.NoNetwork(); why != "" {
		t.Skip("a network without IPv4 cannot be had: ", why)
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil || len(addresses) != 1 || addresses[0].String() != "::1/128" {
		t.Fatalf("the addresses are %v, want ::1/128 alone (%v)", addresses, err)
	}
}

// start starts a node whose vault has a secret.
func start(t *testing.T, o node.Options) *node.Node {
	t.Helper()
	n := node.New(t, o)
	n.Vault.SetSecret("db-password", "hunter2", devcloud.SecretOptions{})
	return n
}

// The proxy's address is an IPv6 literal, with and without a scheme and a login. Entries of NO_PROXY that are IPv6
// addresses or networks leave other hosts to the proxy.
func TestProxy(t *testing.T) {
	t.Parallel()
	without(t)
	for name, test := range map[string]struct {
		login, noProxy string
		noScheme       bool
	}{
		"a URL":                     {},
		"a URL with a login":        {login: "user:password"},
		"no scheme":                 {noScheme: true},
		"literals to be left alone": {noProxy: "::1,[::1]:443,fd00::/8,fe80::1,10.0.0.0/8,169.254.169.254"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listener, err := node.FreeAddress(t.Context())
			if err != nil || !strings.HasPrefix(listener, "[::1]:") {
				t.Fatalf("%q, %v: not a free address of IPv6", listener, err)
			}
			o := node.Options{ProxyLogin: test.login, Env: []string{"NO_PROXY=" + test.noProxy}, Cloud: devcloud.Options{ProxyListen: listener}}
			if test.noScheme {
				o.Env = append(o.Env, "HTTPS_PROXY="+listener)
			}
			n := start(t, o)
			v := node.Volume("secrets", "secrets", "db-password")
			n.MustPublish(t, v)
			if got := node.ReadFile(t, filepath.Join(n.Target(v), "secrets/db-password")); got != "hunter2" {
				t.Errorf("the pod reads %q", got)
			}
			for _, host := range []string{loginHost, "shop.vault.azure.net"} {
				if n.Cloud.Count(devcloud.CountKey{Service: devcloud.ServiceProxy, Host: host}) == 0 {
					t.Errorf("%s was not reached by the proxy", host)
				}
			}
			n.MustUnpublish(t, v)
		})
	}
}

// The names of vault and login host lead to ::1, and NO_PROXY has them without a proxy.
func TestDirect(t *testing.T) {
	t.Parallel()
	without(t)
	hosts := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(hosts, []byte("::1 shop.vault.azure.net "+loginHost+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// In the mount namespace of these tests; the others have a proxy that resolves names for them.
	if err := syscall.Mount(hosts, "/etc/hosts", "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount("/etc/hosts", syscall.MNT_DETACH) })
	n := start(t, node.Options{
		Cloud: devcloud.Options{Listen: "[::1]:443"},
		Env:   []string{"NO_PROXY=::1,.vault.azure.net," + loginHost},
	})
	v := node.Volume("secrets", "secrets", "db-password")
	n.MustPublish(t, v)
	if got := node.ReadFile(t, filepath.Join(n.Target(v), "secrets/db-password")); got != "hunter2" {
		t.Errorf("the pod reads %q", got)
	}
	if asked := n.Cloud.Count(devcloud.CountKey{Service: devcloud.ServiceProxy}); asked != 0 {
		t.Errorf("the proxy was asked %d times", asked)
	}
	n.MustUnpublish(t, v)
}

// An authority host may be an IPv6 literal. NO_PROXY decides whether the proxy is asked for it, which refuses it, or the network, which
// has no way to it.
func TestNoProxy(t *testing.T) {
	t.Parallel()
	without(t)
	const (
		about  = `secrets[0]: secret "db-password" of https://shop.vault.azure.net as workload 11111111-2222-3333-4444-555555555555: no answer from `
		proxy  = "the proxy answered CONNECT with HTTP 403; check the name, and what the proxy allows"
		direct = "network is unreachable; check the network between the node and it"
	)
	for noProxy, why := range map[string]string{
		"":                    proxy,
		"fd00::1":             direct,
		"fd00:0:0::0001":      direct,
		"[fd00::1]:443":       direct,
		"[fd00::1]":           proxy,
		"[fd00::1]:444":       proxy,
		"fd00::/8":            direct,
		"10.0.0.0/8,fd00::/8": direct,
		"fe80::/10":           proxy,
		"fd00::2":             proxy,
	} {
		t.Run(noProxy, func(t *testing.T) {
			t.Parallel()
			n := start(t, node.Options{
				Env:   []string{"NO_PROXY=" + noProxy},
				Flags: []string{"--cloud=custom", "--authority-host=https://[fd00::1]", "--vault-dns-suffix=vault.azure.net"},
			})
			err := n.Publish(t.Context(), node.Volume("secrets", "secrets", "db-password"))
			if got := status.Convert(err).Message(); status.Code(err) != codes.Unavailable || !strings.HasPrefix(got, about) || !strings.HasSuffix(got, ": "+why) {
				t.Errorf("publish:\n got %v\nwant Unavailable: %s…: %s", err, about, why)
			}
		})
	}
}

// The address of the metadata service is one of IPv4, so there are no managed identities here, and the error says why.
func TestManagedIdentity(t *testing.T) {
	t.Parallel()
	without(t)
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	const rules = "rules: [{namespaces: [shop], identities: [managed], clientIDs: [11111111-2222-3333-4444-555555555555], vaults: [https://shop.vault.azure.net]}]"
	if err := os.WriteFile(policy, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	n := start(t, node.Options{Flags: []string{"--policy-file=" + policy}})
	const text = `secrets[0]: secret "db-password" of https://shop.vault.azure.net as managed 11111111-2222-3333-4444-555555555555: ` +
		"no answer from 169.254.169.254: network is unreachable; is this node a VM of Azure, whose metadata service its pods may reach?"
	err := n.Publish(t.Context(), node.Volume("secrets", "identity", "managed", "secrets", "db-password"))
	if status.Code(err) != codes.Unavailable || status.Convert(err).Message() != text {
		t.Errorf("publish:\n got %v\nwant Unavailable: %s", err, text)
	}
}

// Health and metrics are at an IPv6 literal. The default, :PORT, is not tried: package net leaves IPv6 out of it where 127.0.0.1 is
// missing, which it is only here. Linux gives that address to every loopback interface, also on nodes and in pods that have no other of IPv4.
func TestHTTP(t *testing.T) {
	t.Parallel()
	without(t)
	n := start(t, node.Options{})
	for _, page := range []string{"/healthz", "/readyz", "/metrics"} {
		if code, _, err := n.Get(t.Context(), page); err != nil || code != http.StatusOK || !strings.HasPrefix(n.HTTP, "http://[::1]:") {
			t.Errorf("%s%s: HTTP %d, %v", n.HTTP, page, code, err)
		}
	}
}

// The demo takes the addresses that there are.
func TestDemo(t *testing.T) {
	t.Parallel()
	without(t)
	if _, err := node.DaemonBinary(t.Context()); err != nil { // kvcsi looks for it beside itself
		t.Fatal(err)
	}
	kvcsi, err := node.Binary(t.Context(), "kvcsi")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), kvcsi, "demo").CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}
