package daemon_test

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/provider/v1alpha1"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// objects is the parameter objects of a class with secrets of these names.
func objects(names ...string) string {
	var list strings.Builder
	list.WriteString("array:\n")
	for _, name := range names {
		fmt.Fprintf(&list, "  - |\n    objectName: %s\n    objectType: secret\n", name)
	}
	return list.String()
}

// answered is an answer to Mount: "path mode content" for each file, and "id version" for each version, in their order.
func answered(response *v1alpha1.MountResponse) (files, versions []string) {
	for _, f := range response.GetFiles() {
		files = append(files, fmt.Sprintf("%s %04o %s", f.GetPath(), f.GetMode(), f.GetContents()))
	}
	for _, v := range response.GetObjectVersion() {
		versions = append(versions, v.GetId()+" "+v.GetVersion())
	}
	return files, versions
}

// mounted calls Mount, which must succeed.
func mounted(t *testing.T, n *node.Node, class kubelet.Volume, current ...*v1alpha1.ObjectVersion) *v1alpha1.MountResponse {
	t.Helper()
	response, err := n.Provider(t).Mount(t.Context(), n.MustMountRequest(t, class, current...))
	if err != nil {
		t.Fatalf("mount %s: %v", class.Name, err)
	}
	return response
}

// wantFiles calls Mount, which must answer with these files.
func wantFiles(t *testing.T, n *node.Node, class kubelet.Volume, want ...string) {
	t.Helper()
	if files, _ := answered(mounted(t, n, class)); !slices.Equal(files, want) {
		t.Errorf("%s has the files %q, want %q", class.Name, files, want)
	}
}

// refusedMount calls Mount, which must fail with this code and text.
func refusedMount(t *testing.T, n *node.Node, class kubelet.Volume, code codes.Code, text string) {
	t.Helper()
	response, err := n.Provider(t).Mount(t.Context(), n.MustMountRequest(t, class))
	if status.Code(err) != code || status.Convert(err).Message() != text {
		t.Errorf("mount %s: %v\n got %s: %s\nwant %s: %s", class.Name, response, status.Code(err), status.Convert(err).Message(), code, text)
	}
}

func TestProviderVersion(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{Provider: true})
	version, err := n.Provider(t).Version(t.Context(), &v1alpha1.VersionRequest{Version: "v1alpha1"})
	if err != nil {
		t.Fatal(err)
	}
	if version.GetVersion() != "v1alpha1" || version.GetRuntimeName() != "keyvault-csi" || version.GetRuntimeVersion() == "" {
		t.Errorf("Version answers %v", version)
	}
}

// The answer has the files in the order of the objects, each beside the version of its object.
func TestProviderMount(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{Provider: true})
	first := n.Vault.SetSecret("zebra", "stripes", devcloud.SecretOptions{})
	second := n.Vault.SetSecret("ape", "banana", devcloud.SecretOptions{})
	class := node.Class("web", "objects", objects("zebra", "ape")+"  - |\n    objectName: ape\n    objectType: secret\n    objectAlias: dir/ape\n    filePermission: \"0400\"\n")
	files, versions := answered(mounted(t, n, class))
	if want := []string{"zebra 0644 stripes", "ape 0644 banana", "dir/ape 0400 banana"}; !slices.Equal(files, want) {
		t.Errorf("files %q, want %q", files, want)
	}
	if want := []string{"secret/zebra " + first, "secret/ape " + second, "secret/ape " + second}; !slices.Equal(versions, want) {
		t.Errorf("versions %q, want %q", versions, want)
	}

	requests := n.Cloud.Count(devcloud.CountKey{})
	if response := mounted(t, n, node.Class("empty", "objects", "array: []")); len(response.GetFiles()) != 0 || len(response.GetObjectVersion()) != 0 {
		t.Errorf("no objects are answered with %v", response)
	}
	if got := n.Cloud.Count(devcloud.CountKey{}); got != requests {
		t.Errorf("%d requests for no object", got-requests)
	}
	if all := mounts(t, n); len(all) != 0 {
		t.Errorf("the provider has mounted %v", all)
	}
}

// The two flags that the provider has too.
func TestProviderCertificates(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{Provider: true, Flags: []string{
		"--provider-construct-pem-chain=false", "--provider-write-cert-and-key-in-separate-files",
	}})
	cert, err := n.Vault.SetCertificate("tls", devcloud.CertificateOptions{Intermediates: 1, Order: devcloud.RootFirst})
	if err != nil {
		t.Fatal(err)
	}
	response := mounted(t, n, node.Class("web", "objects", objects("tls")))
	var paths []string
	content := map[string]string{}
	for i, f := range response.GetFiles() {
		paths = append(paths, f.GetPath())
		content[f.GetPath()] = string(f.GetContents())
		if v := response.GetObjectVersion()[i]; v.GetId() != "secret/tls" || v.GetVersion() != cert.Version {
			t.Errorf("%s is of %v, want version %s of secret/tls", f.GetPath(), v, cert.Version)
		}
	}
	if want := []string{"tls.crt", "tls.key", "tls"}; !slices.Equal(paths, want) {
		t.Fatalf("files %q, want %q", paths, want)
	}
	if content["tls"] != content["tls.key"]+content["tls.crt"] {
		t.Error("the PEM is not the key and the certificates")
	}
	if block, _ := pem.Decode([]byte(content["tls.crt"])); block == nil || bytes.Equal(block.Bytes, cert.Leaf.Raw) {
		t.Error("the certificates are not in the order of the file, which begins with the root")
	}
}

// The errors are those of our own volumes: their codes, and one line that says what to do.
func TestProviderErrors(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		arrange func(*testing.T, *node.Node)
		class   kubelet.Volume
		flags   []string
		code    codes.Code
		text    string
	}{
		"the class": {
			class: node.Class("web", "objects", objects("a"), "keyvaultName", "", "usePodIdentity", "true"),
			code:  codes.InvalidArgument,
			text: "keyvaultName: is missing; usePodIdentity: is not supported, AAD Pod Identity is archived; write the client id of the identity " +
				"as clientID, and give the identity a federated credential for the pod's service account",
		},
		"no secret": {
			class: node.Class("web", "objects", objects("a", "no-such")),
			code:  codes.NotFound,
			text: `objects[1]: secret "no-such" of https://shop.vault.azure.net as workload 11111111-2222-3333-4444-555555555555: ` +
				"HTTP 404 SecretNotFound: there is no such object; check the name, or recover it if it was deleted",
		},
		"policy": {
			class: node.Class("web", "objects", objects("a"), "clientID", "", "useVMManagedIdentity", "true"),
			code:  codes.PermissionDenied,
			text: "the driver's policy does not let service account shop/web use identity managed at https://shop.vault.azure.net: without a policy " +
				"file only workload and servicePrincipal are allowed; the operator must give one (--policy-file) with a rule such as " +
				`{namespaces: ["shop"], serviceAccounts: ["web"], identities: [managed], vaults: ["https://shop.vault.azure.net"]}`,
		},
		"bytes": {
			class: node.Class("web", "objects", objects("a")),
			flags: []string{"--max-volume-bytes=3"},
			code:  codes.ResourceExhausted,
			text:  "the volume's content is over the limit of 3 bytes (--max-volume-bytes); ask for fewer or smaller objects",
		},
		"files": {
			class: node.Class("web", "objects", objects("a", "b")),
			flags: []string{"--max-volume-files=1"},
			code:  codes.ResourceExhausted,
			text:  "the volume is over the limit of 1 files (--max-volume-files); ask for fewer objects",
		},
		"throttled": {
			arrange: func(t *testing.T, n *node.Node) {
				t.Helper()
				if _, err := n.Cloud.Inject(devcloud.Fault{Action: devcloud.Throttle, Service: devcloud.ServiceVault, RetryAfter: 10 * time.Minute}); err != nil {
					t.Fatal(err)
				}
			},
			class: node.Class("web", "objects", objects("a")),
			code:  codes.Unavailable,
			text: `objects[0]: secret "a" of https://shop.vault.azure.net as workload 11111111-2222-3333-4444-555555555555: ` +
				"HTTP 429 Throttled: the vault is throttled; it is asked again later",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := node.New(t, node.Options{Provider: true, Flags: test.flags})
			n.Vault.SetSecret("a", "value", devcloud.SecretOptions{})
			n.Vault.SetSecret("b", "value", devcloud.SecretOptions{})
			if test.arrange != nil {
				test.arrange(t, n)
			}
			refusedMount(t, n, test.class, test.code, test.text)
			_, page, err := n.Get(t.Context(), "/metrics")
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range []string{
				`keyvault_csi_provider_requests_total{code="OK"} 0`, fmt.Sprintf(`keyvault_csi_provider_requests_total{code=%q} 1`, test.code),
				`keyvault_csi_volumes{state="fresh"} 0`, `keyvault_csi_volumes{state="stale"} 0`,
			} {
				if !strings.Contains(page, "\n"+line+"\n") {
					t.Errorf("/metrics has no %s", line)
				}
			}
		})
	}
}

// TestProviderIdentities logs in with each identity that a class can name.
func TestProviderIdentities(t *testing.T) {
	t.Parallel()
	e := newEstate(t, clouds()[0])
	objects := objects("a")
	secret := func(pairs map[string]string) kubelet.Volume {
		class := node.Class("principal", "keyvaultName", "estate", "clientID", "", "objects", objects)
		class.NoToken, class.Secret = true, pairs
		return class
	}
	for name, class := range map[string]kubelet.Volume{
		"workload":        node.Class("workload", "keyvaultName", "estate", "objects", objects),
		"tenantId":        node.Class("tenant", "keyvaultName", "estate", "objects", objects, "tenantID", "", "tenantId", node.Tenant),
		"system-assigned": node.Class("own", "keyvaultName", "estate", "objects", objects, "clientID", "", "useVMManagedIdentity", "true"),
		"user-assigned": node.Class("assigned", "keyvaultName", "estate", "objects", objects, "clientID", "",
			"useVMManagedIdentity", "true", "userAssignedIdentityID", assignedID),
		"service principal": secret(map[string]string{"clientid": node.PrincipalID, "clientsecret": node.PrincipalSecret}),
		"in capitals":       secret(map[string]string{"CLIENTID": node.PrincipalID, "ClientSecret": node.PrincipalSecret, "unrelated": "x"}),
	} {
		t.Run(name, func(t *testing.T) {
			wantFiles(t, e.Node, class, "a 0644 value of a")
		})
	}
	refusedMount(t, e.Node, secret(map[string]string{"clientid": node.PrincipalID, "clientsecret": "wrong"}), codes.Unauthenticated,
		`objects[0]: secret "a" of https://estate.vault.azure.net as servicePrincipal `+node.PrincipalID+": Entra ID answered HTTP 401 invalid_client, "+
			"AADSTS7000215: the client secret is wrong; give its value, not its id, in the Secret of nodePublishSecretRef")
}
