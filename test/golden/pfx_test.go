package golden_test

import (
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// pfxFolder has PKCS#12 files of every kind, and for each OpenSSL's output: the key, the certificate of the key, the others in the order of
// the file. Its make.sh creates them.
const pfxFolder = "../../pkg/keyvault/certificate/testdata/pfx/"

// pfx is one of these files.
type pfx struct {
	name   string // of its secret
	path   string
	value  string // of the secret
	binary string
	key    string
	certs  []string // leaf first
}

// addPFX adds the files to the vault, as secrets of certificates.
func addPFX(t *testing.T, n *node.Node) (all []pfx) {
	t.Helper()
	described, err := filepath.Glob(pfxFolder + "*.pem")
	if err != nil || len(described) < 20 {
		t.Fatal(described, err)
	}
	for _, path := range described {
		p := pfx{name: strings.TrimSuffix(filepath.Base(path), ".pem"), path: strings.TrimSuffix(path, ".pem") + ".pfx"}
		p.binary = node.ReadFile(t, p.path)
		p.value = base64.StdEncoding.EncodeToString([]byte(p.binary))
		content := blocks(t, node.ReadFile(t, path))
		p.key, p.certs = content[0], content[1:]
		n.Vault.SetSecret(p.name, p.value, devcloud.SecretOptions{ContentType: devcloud.PKCS12, Kid: node.VaultURL + "/keys/" + p.name + "/1", Managed: true})
		all = append(all, p)
	}
	return all
}

// TestEveryPFX checks that a PKCS#12 file with any kind of key and encryption is split exactly as by OpenSSL, which the init container used.
// chainOrder pfx is the order of OpenSSL 3, reverse the order of OpenSSL 1.
func TestEveryPFX(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	for _, p := range addPFX(t, n) {
		reversed := slices.Clone(p.certs)
		slices.Reverse(reversed[1:])
		for order, certs := range map[string][]string{"pfx": p.certs, "reverse": reversed} {
			t.Run(p.name+" "+order, func(t *testing.T) {
				t.Parallel()
				gives(t, n, attributes{"secrets": p.name, "chainOrder": order, "savePFX": "true"}, files{
					"secrets/" + p.name: p.value, "keys/" + p.name: p.key, "keys/" + p.name + ".pfx": p.binary,
					"certs/" + p.name: strings.Join(certs, ""),
				})
			})
		}
		t.Run(p.name+" leaf", func(t *testing.T) {
			t.Parallel()
			gives(t, n, attributes{"secrets": p.name, "downloadCACertificates": "false"}, files{
				"secrets/" + p.name: p.value, "keys/" + p.name: p.key, "certs/" + p.name: p.certs[0],
			})
		})
	}
}

// TestChainInOpenSSLsView checks the files of a volume with the OpenSSL of this machine: the key belongs to the leaf, and by default the next
// certificate is the issuer of each.
func TestChainInOpenSSLsView(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	n := node.New(t, node.Options{})
	all := addPFX(t, n)
	for _, name := range []string{"rsa-2048", "root-first", "leaf-last", "leaf-middle", "secp256k1", "secp256k1-leaf-last"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := all[slices.IndexFunc(all, func(p pfx) bool { return p.name == name })]
			v := volume(t, attributes{"secrets": name})
			if err := n.Publish(t.Context(), v); err != nil {
				t.Fatalf("publish: %v", err)
			}
			view(t, n, v, p)
		})
	}
}

func view(t *testing.T, n *node.Node, v kubelet.Volume, p pfx) {
	t.Helper()
	key, certs := filepath.Join(n.Target(v), "keys", p.name), filepath.Join(n.Target(v), "certs", p.name)
	if ofKey, ofCert := openssl(t, "pkey", "-in", key, "-pubout"), openssl(t, "x509", "-in", certs, "-noout", "-pubkey"); ofKey != ofCert {
		t.Errorf("the first certificate has another key:\n%s%s", ofKey, ofCert)
	}
	chain := blocks(t, node.ReadFile(t, certs))
	if len(chain) != len(p.certs) {
		t.Fatalf("%d certificates, want %d", len(chain), len(p.certs))
	}
	folder := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(folder, name)
		must(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	for i := range len(chain) - 1 {
		openssl(t, "verify", "-partial_chain", "-trusted", file("issuer", chain[i+1]), file("subject", chain[i]))
	}
	root := file("root", chain[len(chain)-1])
	openssl(t, "verify", "-CAfile", root, "-untrusted", certs, certs)
}

func openssl(t *testing.T, arguments ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "openssl", arguments...).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(arguments, " "), err, out)
	}
	return string(out)
}
