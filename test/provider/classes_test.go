package provider_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// maker fills the vault for its classes and returns them.
type maker func(t *testing.T, s *storeDriver, m *material) []class

// TestClasses mounts classes on values that are made in the run, for each configuration of the provider. Objects of all makers share
// a vault, so their names differ.
func TestClasses(t *testing.T) {
	t.Parallel()
	m := newMaterial(t)
	total := 0
	for _, group := range []struct {
		name   string
		flags  []string
		makers []maker
	}{
		{"as by default", nil, []maker{
			secretClasses, aliasClasses, permissionClasses, publicClasses, pfxClasses, pemClasses, chainClasses, historyClasses,
			parameterClasses, yamlClasses, identityClasses,
		}},
		{"chains in file order", []string{"--provider-construct-pem-chain=false"}, []maker{fileOrderClasses}},
		{"separate files", []string{"--provider-write-cert-and-key-in-separate-files"}, []maker{separateClasses}},
		{"separate files, chains in file order", []string{
			"--provider-construct-pem-chain=false", "--provider-write-cert-and-key-in-separate-files",
		}, []maker{separateFileOrderClasses}},
	} {
		t.Run(group.name, func(t *testing.T) {
			s := startForClasses(t, group.flags)
			for _, classes := range group.makers {
				for _, c := range classes(t, s, m) {
					total++
					t.Run(c.name, func(t *testing.T) {
						t.Parallel()
						s.check(t, c)
					})
				}
			}
		})
	}
	if node.NoNetwork() == "" { // else the classes with a managed identity are missing
		documented(t, fmt.Sprintf("%d classes", total))
	}
}

// documented checks that a number is that of the document.
func documented(t *testing.T, count string) {
	t.Helper()
	page := "../../docs/reliability.md"
	if !strings.Contains(node.ReadFile(t, page), count) {
		t.Errorf("%s does not say that there are %s", page, count)
	}
}

// startForClasses starts a daemon. Without flags it may have managed identities.
func startForClasses(t *testing.T, flags []string) *storeDriver {
	t.Helper()
	if flags != nil {
		return start(t, node.Options{}, flags...)
	}
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	rules := "rules:\n- {namespaces: [shop], identities: [servicePrincipal, workload]}\n" +
		"- {namespaces: [shop], identities: [managed], clientIDs: [" + systemID + ", " + assignedID + "]}\n"
	must(t, os.WriteFile(policy, []byte(rules), 0o600))
	return startWithMetadata(t, node.Options{}, "--policy-file="+policy)
}

// objects is the parameter of that name, with entries in block form.
func objects(entries ...string) string {
	var text strings.Builder
	text.WriteString("array:\n")
	for _, entry := range entries {
		text.WriteString("  - |\n    " + strings.ReplaceAll(entry, "\n", "\n    ") + "\n")
	}
	return text.String()
}

// entry is one object; fields are lines of YAML.
func entry(kind, name string, fields ...string) string {
	return strings.Join(append([]string{"objectName: " + name, "objectType: " + kind}, fields...), "\n")
}

// one is the parameter objects with one object.
func one(kind, name string, fields ...string) string { return objects(entry(kind, name, fields...)) }

// of is a file with the default mode.
func of(kind, name, version, path, data string) file {
	return file{Path: path, Mode: "0644", Data: data, ID: kind + "/" + name, Version: version}
}

// set adds a version with a value to a secret of the vault and returns its id.
func (s *storeDriver) set(name, text string) (version string) {
	return s.Vault.SetSecret(name, text, devcloud.SecretOptions{})
}

// back adds the secret behind a certificate, as Key Vault shows it, and returns the id of its version.
func (s *storeDriver) back(name, contentType, text string) (version string) {
	return s.Vault.SetSecret(name, text, devcloud.SecretOptions{
		ContentType: contentType, Kid: node.VaultURL + "/keys/" + name + "/" + strings.Repeat("0", 32), Managed: true,
	})
}
