package golden_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// TestEverySecret tests an unset SECRETS_KEYS: all pages of the list, including certificates. The init container failed at a disabled secret
// and at a PEM certificate; the driver omits the first and splits the second. Of a certificate whose key is not exportable it
// writes the certificate.
func TestEverySecret(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	want := files{}
	const secrets = 70 // on four pages, the first of which is not full
	for i := range secrets {
		name := fmt.Sprintf("Secret-%02d", i)
		n.Vault.SetSecret(name, "older", devcloud.SecretOptions{})
		n.Vault.SetSecret(name, "value of "+name, devcloud.SecretOptions{})
		want["secrets/"+name] = "value of " + name
	}
	n.Vault.SetSecret("disabled", "x", devcloud.SecretOptions{Disabled: true})
	n.Vault.SetSecret("disabled-of-late", "enabled", devcloud.SecretOptions{})
	n.Vault.SetSecret("disabled-of-late", "x", devcloud.SecretOptions{Disabled: true})
	n.Vault.SetSecret("deleted", "x", devcloud.SecretOptions{})
	must(t, n.Vault.Delete(devcloud.Secrets, "deleted"))
	addCertificate(t, n, "disabled-certificate", devcloud.CertificateOptions{Disabled: true})
	for name, contentType := range map[string]string{"web": "", "web-pem": devcloud.PEMFile} {
		c := addCertificate(t, n, name, devcloud.CertificateOptions{ContentType: contentType})
		want["secrets/"+name], want["keys/"+name], want["certs/"+name] = c.value, c.key, c.chain()
	}
	for name, contentType := range map[string]string{"hsm": "", "hsm-pem": devcloud.PEMFile} {
		c := addCertificate(t, n, name, devcloud.CertificateOptions{ContentType: contentType, NotExportable: true, Order: devcloud.RootFirst})
		want["secrets/"+name], want["certs/"+name] = c.value, c.chain()
	}
	all := attributesOf(map[string]string{"VAULT_BASE_URL": node.VaultURL})
	delete(all, "identity")
	gives(t, n, all, want)

	for _, name := range []string{"hsm", "hsm-pem"} {
		note := `secrets[0]: secret \"` + name + `\" of ` + node.VaultURL + ` has a key that is not exportable: its certificate is there, without the key`
		if strings.Count(n.Output(), note) != 1 {
			t.Errorf("the log has no note of %s:\n%s", name, n.Output())
		}
	}

	pages := n.Cloud.Count(devcloud.CountKey{Service: devcloud.ServiceVault, Kind: "secrets/list", Status: 200})
	if pages != 4 {
		t.Errorf("the list was read in %d pages, want 4", pages)
	}
}

// TestEverySecretOfAnEmptyVault: four folders, and no error.
func TestEverySecretOfAnEmptyVault(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	n.Vault.SetSecret("disabled", "x", devcloud.SecretOptions{Disabled: true})
	gives(t, n, attributes{"secrets": "*"}, files{})
}

// TestEverySecretNeedsList: the permission to read is not enough, as before.
func TestEverySecretNeedsList(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	n.Vault.SetSecret("plain", "value", devcloud.SecretOptions{})
	n.Vault.Deny(node.WorkloadID, devcloud.SecretsList)
	refuses(t, n, attributes{"secrets": "*"}, codes.PermissionDenied,
		`the identity may not do secrets/list; add it to the vault's access policy, or assign the role "Key Vault Secrets User"`)
}
