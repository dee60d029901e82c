package provider_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// The names in the recorded calls.
const (
	recordedVault  = "golden"
	recordedTenant = "3c1f7a52-1d0b-4c6e-9f1a-0a5c2e6b7d10"
	recordedClient = "6a0d9f3e-52c1-4a8b-8d0e-9b7c1a2f3e4d"
	recordedSecret = "agent~client~secret"
	recordedIssuer = "https://oidc.example.com/recorded"

	// An identity of the node, which the node of the recording did not have.
	recordedManaged = "77777777-0000-4000-8000-000000000001"
)

// recordedAnswer is one call and the answer of the provider.
type recordedAnswer struct {
	Name       string
	Parameters map[string]string // of the class
	Secret     map[string]string // absent: clientid and clientsecret
	Tokens     bool              // the pod's tokens are in the attributes

	Fails bool
	Files []struct {
		Path, Mode, Text string
		Base64           []byte // instead of Text
	}
	Versions []struct{ ID, Version string }
}

func (r recordedAnswer) answer() answer {
	if r.Fails {
		return answer{}
	}
	want := files()
	for i, f := range r.Files {
		want.Files = append(want.Files, file{f.Path, f.Mode, f.Text + string(f.Base64), r.Versions[i].ID, r.Versions[i].Version})
	}
	return want
}

// TestRecorded repeats each recorded call. It is not parallel because of the metadata service.
func TestRecorded(t *testing.T) {
	var recorded []recordedAnswer
	parse(t, "answers.json", &recorded)
	documented(t, fmt.Sprintf("%d recorded calls", len(recorded)))
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	must(t, os.WriteFile(policy, []byte("rules:\n- {namespaces: [default], identities: [servicePrincipal, workload]}\n- {namespaces: [default], identities: [managed], clientIDs: ["+recordedManaged+"]}\n"), 0o600))
	s := startWithMetadata(t, node.Options{}, "--policy-file="+policy)
	fillRecorded(t, s)
	decided := decidedDifferences(t)
	for _, r := range recorded {
		instead, reason := decided[r.Name].answer, decided[r.Name].why
		delete(decided, r.Name)
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			if _, managed := r.Parameters["useVMManagedIdentity"]; managed && s.noMetadata != "" {
				t.Skip("the address of the metadata service cannot be had: ", s.noMetadata)
			}
			secret := r.Secret
			if secret == nil {
				secret = map[string]string{"clientid": recordedClient, "clientsecret": recordedSecret}
			}
			pod := kubelet.Volume{Namespace: "default", ServiceAccount: "default", TokenInContext: true, NoToken: !r.Tokens}
			compare(t, s.mount(t, r.Parameters, secret, 0o644, pod), r.answer(), instead, reason)
		})
	}
	for name := range decided {
		t.Errorf("%q is not a recorded call", name)
	}
}

// fillRecorded adds the vault of the recording, the identity that may read it, and an identity of the node.
func fillRecorded(t *testing.T, s *storeDriver) {
	t.Helper()
	issuer := s.Cloud.NewIssuer(recordedIssuer)
	s.Issuer = issuer
	must(t, s.Cloud.AddIdentity(devcloud.Identity{
		Tenant: recordedTenant, ClientID: recordedClient, Secrets: []devcloud.ClientSecret{{Value: recordedSecret}},
		Federated: []devcloud.FederatedCredential{{Issuer: recordedIssuer, Subject: "system:serviceaccount:default:default"}},
	}))
	must(t, s.Cloud.AddIdentity(devcloud.Identity{Tenant: recordedTenant, ClientID: recordedManaged, Managed: true}))
	vault, err := s.Cloud.AddVault(recordedVault, devcloud.VaultOptions{Tenant: recordedTenant})
	must(t, err)
	vault.Grant(recordedClient)
	vault.Grant(recordedManaged)

	type object struct {
		Name, Version, Value, ContentType string
		Created                           int64
		Disabled                          bool
	}
	var held struct{ Secrets, Certificates, Keys []object } // the versions of each, the oldest first
	parse(t, "vault.json", &held)
	for _, o := range held.Secrets {
		vault.SetSecret(o.Name, o.Value, devcloud.SecretOptions{Version: o.Version, Created: time.Unix(o.Created, 0), Disabled: o.Disabled})
	}
	for _, o := range held.Certificates {
		options := devcloud.CertificateOptions{Version: o.Version, Created: time.Unix(o.Created, 0)}
		if o.ContentType == devcloud.PEMFile {
			options.PEM = []byte(o.Value)
		} else {
			options.PFX, err = base64.StdEncoding.DecodeString(o.Value)
			must(t, err)
		}
		_, err := vault.SetCertificate(o.Name, options)
		must(t, err)
	}
	for _, o := range held.Keys {
		block, _ := pem.Decode([]byte(o.Value))
		public, err := x509.ParsePKIXPublicKey(block.Bytes)
		must(t, err)
		_, err = vault.SetKey(o.Name, devcloud.KeyOptions{Version: o.Version, Created: time.Unix(o.Created, 0), Public: public})
		must(t, err)
	}
}

func parse(t *testing.T, name string, into any) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", "recorded", name))
	must(t, err)
	must(t, json.Unmarshal(content, into))
}
