package daemon_test

import (
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// azure is a cloud, and how the daemon is configured for it.
type azure struct {
	name, suffix, login, audience string
	flags                         []string
	options                       devcloud.Options
	foreign                       string // a vault of another cloud
}

func clouds() []azure {
	const public = "https://shop.vault.azure.net"
	return []azure{
		{name: "AzurePublicCloud", suffix: "vault.azure.net", login: "login.microsoftonline.com", audience: "api://AzureADTokenExchange",
			foreign: "https://shop.vault.azure.cn"},
		{name: "AzureUSGovernmentCloud", suffix: "vault.usgovcloudapi.net", login: "login.microsoftonline.us", audience: "api://AzureADTokenExchangeUSGov",
			foreign: public},
		{name: "AzureChinaCloud", suffix: "vault.azure.cn", login: "login.chinacloudapi.cn", audience: "api://AzureADTokenExchangeChina",
			foreign: public},
		{name: "custom", suffix: "vault.local.azurestack.external", login: "login.local.azurestack.external", audience: "api://AzureADTokenExchange",
			flags: []string{"--authority-host=https://login.local.azurestack.external", "--vault-dns-suffix=vault.local.azurestack.external"},
			options: devcloud.Options{
				CustomVaultSuffix: "vault.local.azurestack.external", CustomLoginHost: "login.local.azurestack.external",
			}, foreign: public},
	}
}

const (
	ownID       = "44444444-0000-0000-0000-000000000001" // of the node's VM, system-assigned
	assignedID  = "44444444-0000-0000-0000-000000000002" // assigned to it
	objectID    = "44444444-0000-0000-0000-00000000000a" // of assignedID
	resourceID  = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/web"
	certifiedID = "44444444-0000-0000-0000-000000000003" // with a client certificate
	nobodysID   = "44444444-0000-0000-0000-000000000004" // no such application
	otherTenant = "7f0c6a3e-52c1-4a8b-8d0e-9b7c1a2f3e4e"

	pfxPassword = "the password of the file"
)

// certificate is a client certificate in the formats of a Secret or the cluster's file.
type certificate struct {
	parsed          *x509.Certificate
	pem, pfx, plain []byte // plain is the PFX without a password
}

func newCertificate(t *testing.T) certificate {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "login"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	c := certificate{parsed: parsed}
	c.pem = append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	var errPFX, errPlain error
	fips140.WithoutEnforcement(func() { // the encoder names the key by a SHA-1; make fips-test
		c.pfx, errPFX = pkcs12.Modern2023.Encode(key, parsed, nil, pfxPassword)
		c.plain, errPlain = pkcs12.Modern2023.Encode(key, parsed, nil, "")
	})
	if err := errors.Join(errPFX, errPlain); err != nil {
		t.Fatal(err)
	}
	return c
}

// estate is a node of one cloud with every kind of identity, and a policy that allows them to the pods of one namespace.
type estate struct {
	*node.Node
	azure

	vault       *devcloud.Vault
	clusterFile string
	certificate certificate
}

func newEstate(t *testing.T, cloud azure) *estate {
	t.Helper()
	dir := t.TempDir()
	e := &estate{azure: cloud, clusterFile: filepath.Join(dir, "azure.json"), certificate: newCertificate(t)}
	policy := filepath.Join(dir, "policy.yaml")
	replace(t, policy, `rules:
- {namespaces: [`+node.Namespace+`], identities: [workload, servicePrincipal, managed, cluster], clientIDs: ["*"]}
- {namespaces: ["*"], identities: [workload]}
`)
	e.Node = startWithMetadata(t, node.Options{
		Provider: true,
		Flags:    append([]string{"--cloud=" + cloud.name, "--policy-file=" + policy, "--cluster-identity-file=" + e.clusterFile}, cloud.flags...),
		Env:      []string{"HTTP_PROXY=http://127.0.0.1:1", "IDENTITY_ENDPOINT=http://127.0.0.1:1", "IDENTITY_HEADER=x", "MSI_ENDPOINT=http://127.0.0.1:1", "IMDS_ENDPOINT=http://127.0.0.1:1"},
		Cloud:    cloud.options,
	})
	e.Audience = cloud.audience
	systemAssigned(t, e.Node, node.Tenant, ownID)
	for _, id := range []devcloud.Identity{
		{Tenant: node.Tenant, ClientID: assignedID, ObjectID: objectID, ResourceID: resourceID, Managed: true},
		{Tenant: node.Tenant, ClientID: certifiedID, Certificates: []*x509.Certificate{e.certificate.parsed}},
		{Tenant: node.Tenant, ClientID: node.WorkloadID, Federated: []devcloud.FederatedCredential{{
			Issuer: e.Issuer.URL(), Subject: "system:serviceaccount:" + node.Namespace + ":" + node.ServiceAccount, Audience: cloud.audience,
		}}},
	} {
		if err := e.Cloud.AddIdentity(id); err != nil {
			t.Fatal(err)
		}
	}
	e.Cloud.AddTenant(otherTenant)
	vault, err := e.Cloud.AddVault("estate", devcloud.VaultOptions{Tenant: node.Tenant, Suffix: cloud.suffix})
	if err != nil {
		t.Fatal(err)
	}
	e.vault = vault
	for _, id := range []string{node.WorkloadID, node.PrincipalID, ownID, assignedID, certifiedID} {
		vault.Grant(id)
	}
	vault.SetSecret("a", "value of a", devcloud.SecretOptions{})
	return e
}

// replace replaces a file atomically.
func replace(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// pod is a volume with the secret a; pairs are attributes.
func (e *estate) pod(pairs ...string) kubelet.Volume {
	v := workload("vault", e.vault.URL(), "clientID", "", "secrets", "a")
	v.NoToken = true
	return node.With(v, pairs...)
}

func (e *estate) withSecret(secret map[string]string, pairs ...string) kubelet.Volume {
	v := e.pod(pairs...)
	v.Secret = secret
	return v
}

// TestIdentities logs in with each identity in each cloud, with valid and invalid credentials, through the socket.
func TestIdentities(t *testing.T) {
	t.Parallel()
	for _, cloud := range clouds() {
		t.Run(cloud.name, func(t *testing.T) {
			t.Parallel()
			e := newEstate(t, cloud)
			for _, row := range e.rows(t) {
				t.Run(row.name, func(t *testing.T) {
					if row.file != "" {
						replace(t, e.clusterFile, row.file)
					}
					row.volume.Name = strings.NewReplacer(" ", "-", ",", "").Replace(row.name)
					before := e.Cloud.Count(devcloud.CountKey{})
					err := e.Publish(t.Context(), row.volume)
					switch message := status.Convert(err).Message(); {
					case status.Code(err) != row.code:
						t.Fatalf("publish: %v, want %s", err, row.code)
					case !strings.HasSuffix(message, row.text):
						t.Errorf("publish:\n got %s\nwant %s at its end", message, row.text)
					case row.code == codes.OK && node.ReadFile(t, filepath.Join(e.Target(row.volume), "secrets/a")) != "value of a":
						t.Error("the file does not hold the value")
					case row.silent && e.Cloud.Count(devcloud.CountKey{}) != before:
						t.Errorf("the network got requests: %v", e.Cloud.Counts())
					}
					e.Node.MustUnpublish(t, row.volume)
				})
			}
			for _, r := range e.Cloud.Requests() {
				if r.Service == devcloud.ServiceLogin && (r.Host != cloud.login || r.Kind == "discovery") {
					t.Errorf("a login sent %[2]s to %[1]s", r.Host, r.Kind)
				}
				if r.Service == devcloud.ServiceProxy && strings.Contains(r.Path, "169.254") {
					t.Error("the metadata service was asked through the proxy")
				}
			}
		})
	}
}

type row struct {
	name   string
	volume kubelet.Volume
	file   string // content of the cluster's file; empty: unchanged
	code   codes.Code
	text   string // end of the error
	silent bool   // no request may be sent
}

func (e *estate) rows(t *testing.T) []row {
	t.Helper()
	return append(append(append(e.podRows(), e.managedRows()...), e.clusterRows(t)...), e.foreignRows()...)
}

// podRows are the identities of pods.
func (e *estate) podRows() []row {
	federated, stranger := e.pod("clientID", node.WorkloadID), e.pod("clientID", node.WorkloadID)
	federated.NoToken, stranger.NoToken = false, false
	stranger.Namespace = "elsewhere"
	before := federated
	before.TokenInContext = true
	certified := func(key, value, password string) kubelet.Volume {
		return e.withSecret(map[string]string{"clientid": certifiedID, key: value, "clientcertificatepassword": password})
	}
	pfx := base64.StdEncoding.EncodeToString(e.certificate.pfx)
	principal := func(id, secret string, pairs ...string) kubelet.Volume {
		return e.withSecret(map[string]string{"ClientID": id, "clientSecret": secret}, pairs...)
	}
	return []row{
		{name: "workload", volume: federated},
		{name: "workload, token in the context", volume: before},
		{name: "workload in another namespace", volume: stranger, code: codes.Unauthenticated,
			text: `it needs one with subject "system:serviceaccount:elsewhere:web", issuer "https://oidc.example.com/node", audience "` + e.audience + `"`},
		{name: "workload, no such application", volume: func() kubelet.Volume { v := node.With(federated, "clientID", nobodysID); return v }(), code: codes.Unauthenticated,
			text: "AADSTS700016: tenant " + node.Tenant + " has no such application; check clientID and tenantID"},
		{name: "client secret", volume: principal(node.PrincipalID, node.PrincipalSecret)},
		{name: "client secret, tenant named", volume: principal(node.PrincipalID, node.PrincipalSecret, "tenantID", node.Tenant)},
		{name: "client secret, wrong", volume: principal(node.PrincipalID, "wrong"), code: codes.Unauthenticated,
			text: "AADSTS7000215: the client secret is wrong; give its value, not its id, in the Secret of nodePublishSecretRef"},
		{name: "client secret, wrong tenant", volume: principal(node.PrincipalID, node.PrincipalSecret, "tenantID", otherTenant), code: codes.Unauthenticated,
			text: "check clientID and tenantID (asked of tenant " + otherTenant + ", while the vault belongs to tenant " + node.Tenant + ")"},
		{name: "client secret, no such tenant", volume: principal(node.PrincipalID, node.PrincipalSecret, "tenantID", "nobody.example.com"), code: codes.Unauthenticated,
			text: "AADSTS90002: there is no tenant nobody.example.com in " + e.name + "; check tenantID and --cloud (asked of tenant nobody.example.com, while the vault belongs to tenant " + node.Tenant + ")"},
		{name: "certificate, PEM", volume: certified("clientcertificate", string(e.certificate.pem), "")},
		{name: "certificate, PFX", volume: certified("clientcertificate", base64.StdEncoding.EncodeToString(e.certificate.plain), "")},
		{name: "certificate, PFX with a password", volume: certified("clientcertificate", pfx, pfxPassword)},
		{name: "certificate, wrong password", volume: certified("clientcertificate", pfx, "wrong"), code: codes.InvalidArgument,
			text: "nodePublishSecretRef[clientcertificate] cannot be decrypted: the password is wrong or missing"},
		{name: "certificate of another application", volume: e.withSecret(map[string]string{"clientid": node.PrincipalID, "clientcertificate": string(e.certificate.pem)}), code: codes.Unauthenticated,
			text: "AADSTS700027: the client certificate is not one of the application's, or has expired; upload it to the application, or put the right one into the Secret of nodePublishSecretRef"},
	}
}

// managedRows are managed identities of the node.
func (e *estate) managedRows() []row {
	elsewhere := e.pod("identity", "managed")
	elsewhere.Namespace = "elsewhere"
	return []row{
		{name: "managed", volume: e.pod("identity", "managed")},
		{name: "managed by client id", volume: e.pod("identity", "managed", "clientID", assignedID)},
		{name: "managed by object id", volume: e.pod("identity", "managed", "objectID", objectID)},
		{name: "managed by resource id", volume: e.pod("identity", "managed", "resourceID", resourceID)},
		{name: "managed by two ids", volume: e.pod("identity", "managed", "objectID", objectID, "clientID", assignedID), code: codes.InvalidArgument,
			text: "identity: managed takes one of clientID, objectID and resourceID, not clientID and objectID", silent: true},
		{name: "managed, not assigned", volume: e.pod("identity", "managed", "clientID", node.PrincipalID), code: codes.Unauthenticated,
			text: "the node's metadata service answered HTTP 400 invalid_request: the node has no such identity; assign it to the VM or its scale set"},
		{name: "managed in another namespace", volume: elsewhere, code: codes.PermissionDenied, silent: true,
			text: `no rule of the policy file allows it; the operator must add one, such as {namespaces: ["elsewhere"], serviceAccounts: ["web"], identities: [managed], vaults: ["` + e.vault.URL() + `"]}`},
	}
}

// clusterRows are the formats of the cluster's file.
func (e *estate) clusterRows(t *testing.T) []row {
	t.Helper()
	cert := filepath.Join(filepath.Dir(e.clusterFile), "sp.pfx")
	replace(t, cert, string(e.certificate.pfx))
	cloud := e.name
	if cloud == "custom" {
		cloud = "AzureStackCloud"
	}
	file := func(tenant, rest string) string {
		return `{"cloud":"` + cloud + `","tenantId":"` + tenant + `",` + rest + `}`
	}
	secret := `"aadClientId":"` + node.PrincipalID + `","aadClientSecret":"` + node.PrincipalSecret + `"`
	elsewhere := e.pod("identity", "cluster")
	elsewhere.Namespace = "elsewhere"
	return []row{
		{name: "cluster, no file", volume: e.pod("identity", "cluster"), code: codes.FailedPrecondition, silent: true,
			text: e.clusterFile + " cannot be read: no such file or directory; the driver needs the node's file there (--cluster-identity-file)"},
		{name: "cluster, secret", volume: e.pod("identity", "cluster"), file: file(node.Tenant, secret)},
		{name: "cluster in another namespace", volume: elsewhere, code: codes.PermissionDenied, silent: true,
			text: `identities: [cluster], vaults: ["` + e.vault.URL() + `"]}`},
		{name: "cluster, wrong secret", volume: e.pod("identity", "cluster"), file: file(node.Tenant, `"aadClientId":"`+node.PrincipalID+`","aadClientSecret":"wrong"`),
			code: codes.Unauthenticated, text: "AADSTS7000215: the client secret is wrong; give its value, not its id, in the cluster's file (--cluster-identity-file)"},
		{name: "cluster, certificate", volume: e.pod("identity", "cluster"),
			file: file(node.Tenant, `"aadClientId":"`+certifiedID+`","aadClientCertPath":"`+cert+`","aadClientCertPassword":"`+pfxPassword+`"`)},
		{name: "cluster, certificate with a wrong password", volume: e.pod("identity", "cluster"),
			file: file(node.Tenant, `"aadClientId":"`+certifiedID+`","aadClientCertPath":"`+cert+`","aadClientCertPassword":"wrong"`),
			code: codes.FailedPrecondition, text: "the certificate at aadClientCertPath of the cluster's file cannot be decrypted: the password is wrong or missing"},
		{name: "cluster, msi", volume: e.pod("identity", "cluster"), file: file(node.Tenant, `"aadClientId":"msi","aadClientSecret":"msi"`)},
		{name: "cluster, managed by client id", volume: e.pod("identity", "cluster"),
			file: file(node.Tenant, `"aadClientId":"msi","aadClientSecret":"msi","useManagedIdentityExtension":true,"userAssignedIdentityID":"`+assignedID+`"`)},
		{name: "cluster, managed by resource id", volume: e.pod("identity", "cluster"),
			file: file(node.Tenant, `"useManagedIdentityExtension":true,"userAssignedIdentityID":"`+resourceID+`"`)},
		{name: "cluster, managed and not assigned", volume: e.pod("identity", "cluster"),
			file: file(node.Tenant, `"useManagedIdentityExtension":true,"userAssignedIdentityID":"`+nobodysID+`"`),
			code: codes.Unauthenticated, text: "the node has no such identity; assign it to the VM or its scale set"},
		{name: "cluster, a wrong tenant in the file", volume: e.pod("identity", "cluster"), file: file(otherTenant, secret), code: codes.Unauthenticated,
			text: "check aadClientId and tenantId in the cluster's file, or set tenantID to auto (asked of tenant " + otherTenant + ", while the vault belongs to tenant " + node.Tenant + ")"},
		{name: "cluster, a wrong tenant in the file, auto", volume: e.pod("identity", "cluster", "tenantID", "auto"), file: file(otherTenant, secret)},
	}
}

// foreignRows name vaults that must never get a token.
func (e *estate) foreignRows() []row {
	want := "want https://NAME." + e.suffix + " or NAME (3 to 24 letters, digits and single hyphens, a letter first)"
	at := func(vault string) kubelet.Volume { return e.pod("identity", "managed", "vault", vault) }
	return []row{
		{name: "vault of another cloud", volume: at(e.foreign), code: codes.InvalidArgument, silent: true,
			text: want + ", " + strings.TrimPrefix(e.foreign, "https://shop.") + " belongs to another cloud than the one this driver is set up for"},
		{name: "vault of nobody", volume: at("https://vault.azure.net.evil.example"), code: codes.InvalidArgument, silent: true, text: want},
		{name: "vault with a suffix glued on", volume: at("https://evil" + e.suffix), code: codes.InvalidArgument, silent: true, text: want},
		{name: "vault below a vault", volume: at("https://a.estate." + e.suffix), code: codes.InvalidArgument, silent: true, text: want},
		{name: "vault with credentials", volume: at(e.vault.URL() + "@evil.example"), code: codes.InvalidArgument, silent: true, text: want},
		{name: "vault by its private name", volume: at("https://estate.privatelink.vaultcore.azure.net"), code: codes.InvalidArgument, silent: true,
			text: want + ", the public name leads to the private endpoint by itself, write it without privatelink"},
	}
}

// A pod that names no identity gets the operator's default, if the policy allows it.
func TestDefaultIdentity(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ identity, namespace string }{{"managed", "shop"}, {"cluster", "shop"}, {"cluster", "elsewhere"}} {
		t.Run(tc.identity+" in "+tc.namespace, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			replace(t, filepath.Join(dir, "policy.yaml"), `rules: [{namespaces: [shop], identities: [managed, cluster]}]`)
			replace(t, filepath.Join(dir, "azure.json"), `{"useManagedIdentityExtension":true}`)
			n := startWithMetadata(t, node.Options{Flags: []string{
				"--default-identity=" + tc.identity, "--policy-file=" + filepath.Join(dir, "policy.yaml"), "--cluster-identity-file=" + filepath.Join(dir, "azure.json"),
			}})
			systemAssigned(t, n, node.Tenant, ownID)
			n.Vault.Grant(ownID)
			n.Vault.SetSecret("a", "value of a", devcloud.SecretOptions{})
			v := workload("clientID", "", "secrets", "a")
			v.Namespace = tc.namespace
			err := n.Publish(t.Context(), v)
			want := codes.OK
			if tc.namespace == "elsewhere" {
				want = codes.PermissionDenied
			}
			if status.Code(err) != want {
				t.Errorf("publish: %v, want %s", err, want)
			}
		})
	}
}
