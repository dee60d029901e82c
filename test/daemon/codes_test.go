package daemon_test

import (
	"context"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// TestCodes checks the gRPC code and the whole text of each error of a vault, through the socket. The text is what a user reads in the
// events of a pod.
func TestCodes(t *testing.T) {
	t.Parallel()
	fault := func(f devcloud.Fault) func(*testing.T, *node.Node) {
		return func(t *testing.T, n *node.Node) {
			t.Helper()
			if _, err := n.Cloud.Inject(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	principal := workload("secrets", "db-password", "clientID", "")
	principal.NoToken = true
	principal.Secret = map[string]string{"clientid": node.PrincipalID, "clientsecret": "wrong"}
	stranger := workload("secrets", "db-password")
	stranger.ServiceAccount = "stranger"
	for name, test := range map[string]struct {
		arrange func(*testing.T, *node.Node)
		volume  kubelet.Volume
		flags   []string
		code    codes.Code
		text    string
	}{
		"missing secret": {
			volume: workload("secrets", "no-such"),
			code:   codes.NotFound,
			text:   `secrets[0]: secret "no-such" of https://shop.vault.azure.net as workload 11111111-2222-3333-4444-555555555555: HTTP 404 SecretNotFound: there is no such object; check the name, or recover it if it was deleted`,
		},
		"missing version": {
			volume: workload("secrets", "db-password:00000000000000000000000000000000"),
			code:   codes.NotFound,
			text:   `secrets[0]: secret "db-password" version 00000000000000000000000000000000 of https://shop.vault.azure.net as workload 11111111-2222-3333-4444-555555555555: HTTP 404 SecretNotFound: there is no such object, or not in this version; check both, or recover it if it was deleted`,
		},
		"access policy": {
			arrange: func(_ *testing.T, n *node.Node) { n.Vault.Deny(node.WorkloadID) },
			volume:  workload("secrets", "db-password"),
			code:    codes.PermissionDenied,
			text:    `secrets[0]: secret "db-password" of https://shop.vault.azure.net as workload 11111111-2222-3333-4444-555555555555: HTTP 403 Forbidden, ForbiddenByPolicy: the identity may not do secrets/get; add it to the vault's access policy, or assign the role "Key Vault Secrets User"`,
		},
		"firewall": {
			arrange: func(_ *testing.T, n *node.Node) { n.Vault.SetFirewall(true) },
			volume:  workload("secrets", "db-password"),
			code:    codes.PermissionDenied,
			text:    `secrets[0]: secret "db-password" of https://shop.vault.azure.net as workload 11111111-2222-3333-4444-555555555555: HTTP 403 Forbidden, ForbiddenByFirewall: the vault's firewall refuses this node; allow its address or subnet, or use a private endpoint`,
		},
		"policy": {
			volume: workload("secrets", "db-password", "identity", "managed", "clientID", ""),
			code:   codes.PermissionDenied,
			text:   `the driver's policy does not let service account shop/web use identity managed at https://shop.vault.azure.net: without a policy file only workload and servicePrincipal are allowed; the operator must give one (--policy-file) with a rule such as {namespaces: ["shop"], serviceAccounts: ["web"], identities: [managed], vaults: ["https://shop.vault.azure.net"]}`,
		},
		"wrong client secret": {
			volume: principal,
			code:   codes.Unauthenticated,
			text:   `secrets[0]: secret "db-password" of https://shop.vault.azure.net as servicePrincipal 66666666-7777-8888-9999-000000000000: Entra ID answered HTTP 401 invalid_client, AADSTS7000215: the client secret is wrong; give its value, not its id, in the Secret of nodePublishSecretRef`,
		},
		"service account that is not federated": {
			volume: stranger,
			code:   codes.Unauthenticated,
			text:   `secrets[0]: secret "db-password" of https://shop.vault.azure.net as workload 11111111-2222-3333-4444-555555555555: Entra ID answered HTTP 401 invalid_client, AADSTS700213: no federated credential of the application matches the pod's token; it needs one with subject "system:serviceaccount:shop:stranger", issuer "https://oidc.example.com/node", audience "api://AzureADTokenExchange"`,
		},
		"unknown application": {
			volume: workload("secrets", "db-password", "clientID", "99999999-0000-0000-0000-000000000000"),
			code:   codes.Unauthenticated,
			text:   `secrets[0]: secret "db-password" of https://shop.vault.azure.net as workload 99999999-0000-0000-0000-000000000000: Entra ID answered HTTP 400 unauthorized_client, AADSTS700016: tenant 7f0c6a3e-52c1-4a8b-8d0e-9b7c1a2f3e4d has no such application; check clientID and tenantID`,
		},
		"disabled secret": {
			arrange: func(t *testing.T, n *node.Node) {
				t.Helper()
				if err := n.Vault.Disable(devcloud.Secrets, "db-password", ""); err != nil {
					t.Fatal(err)
				}
			},
			volume: workload("secrets", "db-password"),
			code:   codes.FailedPrecondition,
			text:   `secrets[0]: secret "db-password" of https://shop.vault.azure.net as workload 11111111-2222-3333-4444-555555555555: HTTP 403 Forbidden, SecretDisabled: it is disabled; enable it, or mark the object optional`,
		},
		"certificate that cannot be exported": {
			arrange: func(t *testing.T, n *node.Node) {
				t.Helper()
				if _, err := n.Vault.SetCertificate("web-tls", devcloud.CertificateOptions{NotExportable: true}); err != nil {
					t.Fatal(err)
				}
			},
			volume: workload("secrets", "web-tls"),
			code:   codes.FailedPrecondition,
			text:   `secrets[0]: secret "web-tls" of https://shop.vault.azure.net holds no private key: the certificate's key is not exportable; make it exportable, or ask for its chain, cert or ca alone (attribute objects)`,
		},
		"chain without its intermediate": {
			arrange: func(t *testing.T, n *node.Node) {
				t.Helper()
				made, err := n.Vault.SetCertificate("whole", devcloud.CertificateOptions{KeyType: devcloud.P256, ContentType: devcloud.PEMFile, Intermediates: 1})
				if err != nil {
					t.Fatal(err)
				}
				intermediate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.CAs[0].Raw})
				n.Vault.SetSecret("web-tls", strings.Replace(made.Value, string(intermediate), "", 1), devcloud.SecretOptions{ContentType: devcloud.PEMFile})
			},
			volume: workload("objects", "- {certificate: web-tls, requireChain: true}"),
			code:   codes.FailedPrecondition,
			text: `objects[0]: certificate "web-tls" of https://shop.vault.azure.net has a gap in its chain: the issuer of certificate 1 of the chain is missing; ` +
				"import it with its intermediate certificates",
		},
		"undecodable certificate": {
			arrange: func(_ *testing.T, n *node.Node) {
				n.Vault.SetSecret("web-tls", "MIIB", devcloud.SecretOptions{ContentType: devcloud.PKCS12})
			},
			volume: workload("objects", "- certificate: web-tls"),
			code:   codes.FailedPrecondition,
			text:   `objects[0]: certificate "web-tls" of https://shop.vault.azure.net is not a readable PKCS#12 file without a password`,
		},
		"undecodable value": {
			volume: workload("objects", "- {secret: db-password, encoding: base64}"),
			code:   codes.FailedPrecondition,
			text:   `objects[0]: secret "db-password" of https://shop.vault.azure.net is not base64; correct the value or the encoding`,
		},
		"JSON value without the field": {
			arrange: func(_ *testing.T, n *node.Node) {
				n.Vault.SetSecret("db", `{"db": {"user": "app"}}`, devcloud.SecretOptions{})
			},
			volume: workload("objects", "- {secret: db, field: /db/password}"),
			code:   codes.FailedPrecondition,
			text:   `objects[0]: secret "db" of https://shop.vault.azure.net has no field "/db/password", "/db" has no member "password"; correct the pointer or the value`,
		},
		"value that an env file cannot hold": {
			arrange: func(_ *testing.T, n *node.Node) {
				n.Vault.SetSecret("motto", "it's", devcloud.SecretOptions{})
			},
			volume: workload("objects", "- {env: app.env, from: [{secret: motto}]}"),
			code:   codes.FailedPrecondition,
			text: `objects[0].from[0]: secret "motto" of https://shop.vault.azure.net cannot be the entry "MOTTO" of "app.env": it has a single quote, which the format ` +
				"cannot express; change the value, or write it to a json or properties file, or to one of its own",
		},
		"file name of a certificate on a secret that backs none": {
			volume: workload("secrets", "db-password::tls.crt"),
			code:   codes.FailedPrecondition,
			text:   `secrets[0]: secret "db-password" of https://shop.vault.azure.net backs no certificate, so that there is nothing for its certificate's file; leave the file names out`,
		},
		"vault that does not exist": {
			volume: workload("secrets", "db-password", "vault", "nobodys"),
			code:   codes.Unavailable,
			text:   `secrets[0]: secret "db-password" of https://nobodys.vault.azure.net as workload 11111111-2222-3333-4444-555555555555: no answer from nobodys.vault.azure.net: the proxy answered CONNECT with HTTP 502; check the name, and what the proxy allows`,
		},
		"throttled": {
			arrange: fault(devcloud.Fault{Action: devcloud.Throttle, Service: devcloud.ServiceVault, RetryAfter: 120 * time.Second}),
			volume:  workload("secrets", "db-password"),
			code:    codes.Unavailable,
			text:    `secrets[0]: secret "db-password" of https://shop.vault.azure.net as workload 11111111-2222-3333-4444-555555555555: HTTP 429 Throttled: the vault is throttled; it is asked again later`,
		},
		"vault fails": {
			arrange: fault(devcloud.Fault{Action: devcloud.Fail, Service: devcloud.ServiceVault, Status: 503}),
			volume:  workload("secrets", "db-password"),
			code:    codes.Unavailable,
			text:    `secrets[0]: secret "db-password" of https://shop.vault.azure.net as workload 11111111-2222-3333-4444-555555555555: HTTP 503 ServiceUnavailable: the vault fails; it is asked again later`,
		},
		"Entra ID fails": {
			arrange: fault(devcloud.Fault{Action: devcloud.Fail, Service: devcloud.ServiceLogin, Status: 503}),
			volume:  workload("secrets", "db-password"),
			code:    codes.Unavailable,
			text:    `secrets[0]: secret "db-password" of https://shop.vault.azure.net as workload 11111111-2222-3333-4444-555555555555: Entra ID answered HTTP 503 temporarily_unavailable, AADSTS90033: the authority fails; tried again later`,
		},
		"too many bytes": {
			flags:  []string{"--max-volume-bytes=5"},
			volume: workload("secrets", "db-password"),
			code:   codes.ResourceExhausted,
			text:   `the volume's content is over the limit of 5 bytes (--max-volume-bytes); ask for fewer or smaller objects`,
		},
		"too many files": {
			flags:  []string{"--max-volume-files=1"},
			volume: workload("secrets", "db-password;other"),
			code:   codes.ResourceExhausted,
			text:   `the volume is over the limit of 1 files (--max-volume-files); ask for fewer objects`,
		},
		"the volume's own timeout": {
			arrange: fault(devcloud.Fault{Action: devcloud.Hang, Service: devcloud.ServiceVault}),
			volume:  workload("secrets", "db-password", "timeout", "300ms"),
			code:    codes.DeadlineExceeded,
			text:    `not ready within the volume's timeout of 300ms (attribute timeout): secrets[0]: secret "db-password" of https://shop.vault.azure.net as workload 11111111-2222-3333-4444-555555555555: waiting for the vault: context deadline exceeded`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := node.New(t, node.Options{Flags: test.flags})
			n.Vault.SetSecret("db-password", "hunter2", devcloud.SecretOptions{})
			n.Vault.SetSecret("other", "value", devcloud.SecretOptions{})
			if test.arrange != nil {
				test.arrange(t, n)
			}
			refused(t, n, test.volume, test.code, test.text)
		})
	}
}

// The codes that depend on the caller and not on the vault.
func TestCodesOfTheCaller(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	n.Vault.SetSecret("db-password", "hunter2", devcloud.SecretOptions{})
	v := workload("secrets", "db-password")
	clear, err := n.Cloud.Inject(devcloud.Fault{Action: devcloud.Hang, Service: devcloud.ServiceVault})
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Publish(ctx, v) }()
	if err := n.Cloud.Wait(t.Context(), devcloud.CountKey{Service: devcloud.ServiceVault}, 1); err != nil {
		t.Fatal(err)
	}
	err = n.Publish(t.Context(), v)
	if want := "a call for " + n.Target(v) + " runs already"; status.Code(err) != codes.Aborted || status.Convert(err).Message() != want {
		t.Errorf("an overlapping call: %v, want Aborted: %s", err, want)
	}
	cancel()
	if err := <-done; status.Code(err) != codes.Canceled {
		t.Errorf("the call that was cancelled: %v, want Canceled", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := publishWhenFree(short, n, v); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a call with a deadline: %v, want DeadlineExceeded", err)
	}
	clear()
	if err := publishWhenFree(t.Context(), n, v); err != nil {
		t.Errorf("after the vault came back: %v", err)
	}
}

// publishWhenFree repeats a call, as the kubelet does, while an earlier call that was abandoned still runs.
func publishWhenFree(ctx context.Context, n *node.Node, v kubelet.Volume) error {
	for {
		if err := n.Publish(ctx, v); status.Code(err) != codes.Aborted {
			return err
		}
		<-time.After(10 * time.Millisecond)
	}
}

func TestInternalIsTheMountItself(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	n.Vault.SetSecret("db-password", "hunter2", devcloud.SecretOptions{})
	v := workload("secrets", "db-password")
	if err := os.MkdirAll(filepath.Dir(n.Target(v)), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(n.Target(v), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := n.Publish(t.Context(), v)
	want := fmt.Sprintf("target path %q is a symbolic link or a file, not a folder: this driver makes neither; remove it", n.Target(v))
	if status.Code(err) != codes.Internal || status.Convert(err).Message() != want {
		t.Errorf("a file in place of the target:\n got %v\nwant Internal: %s", err, want)
	}
}
