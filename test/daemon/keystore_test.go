package daemon_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// refreshed publishes a volume that is due, and reports whether its set is another one.
func refreshed(t *testing.T, n *node.Node, v kubelet.Volume) (changed bool) {
	t.Helper()
	link := filepath.Join(n.Target(v), "..data")
	before, err := os.Readlink(link)
	if err != nil {
		t.Fatal(err)
	}
	n.Age(t, v, 121*time.Second)
	n.MustPublish(t, v)
	after, err := os.Readlink(link)
	if err != nil {
		t.Fatal(err)
	}
	return before != after
}

func setCertificate(t *testing.T, n *node.Node, name string, o devcloud.CertificateOptions) {
	t.Helper()
	if _, err := n.Vault.SetCertificate(name, o); err != nil {
		t.Fatal(err)
	}
}

// TestKeystore: a program reads the PKCS#12 file with the password that is in the volume, before and after each rotation, and a refresh or a
// restart of the driver without a rotation changes nothing.
func TestKeystore(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	setCertificate(t, n, "web", devcloud.CertificateOptions{})
	n.Vault.SetSecret("p", "first", devcloud.SecretOptions{})
	v := workload("objects", "- {certificate: web, pfx: web.p12, pfxPassword: {secret: p}}\n"+
		"- {certificate: web, pfx: old.p12, pfxPassword: {secret: p}, pfxProfile: legacy}\n- secret: p")
	n.MustPublish(t, v)
	opens := func(password string) {
		t.Helper()
		if got := node.ReadFile(t, filepath.Join(n.Target(v), "p")); got != password {
			t.Errorf("the password is %q", got)
		}
		for _, name := range []string{"web.p12", "old.p12"} {
			data := node.ReadFile(t, filepath.Join(n.Target(v), name))
			if _, _, cas, err := pkcs12.DecodeChain([]byte(data), password); err != nil || len(cas) != 1 {
				t.Errorf("%s: %d CAs, %v", name, len(cas), err)
			}
		}
	}
	opens("first")
	if refreshed(t, n, v) {
		t.Error("a refresh changes the set of an unchanged vault")
	}
	if _, err := n.StopDaemon(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := n.StartDaemon(t.Context()); err != nil {
		t.Fatal(err)
	}
	if refreshed(t, n, v) {
		t.Error("after a restart a refresh changes the set of an unchanged vault")
	}
	n.Vault.SetSecret("p", "second", devcloud.SecretOptions{})
	if !refreshed(t, n, v) {
		t.Error("the password has changed and the set has not")
	}
	opens("second")
	setCertificate(t, n, "web", devcloud.CertificateOptions{})
	if !refreshed(t, n, v) {
		t.Error("the certificate has changed and the set has not")
	}
	opens("second")
	if got := n.MustMetric(t, `keyvault_csi_certificates`); got != 1 {
		t.Errorf("%v certificates are counted, want 1", got)
	}
}

// TestKeystoreInOpenSSLsView checks the file as programs use it: the password from a file with a line end.
func TestKeystoreInOpenSSLsView(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip(err)
	}
	n := node.New(t, node.Options{})
	setCertificate(t, n, "web", devcloud.CertificateOptions{})
	n.Vault.SetSecret("p", "made with echo\n", devcloud.SecretOptions{})
	v := workload("objects", "- {certificate: web, pfx: web.p12, pem: web.pem, pfxPassword: {secret: p}}\n- secret: p")
	n.MustPublish(t, v)
	command := exec.CommandContext(t.Context(), "openssl", "pkcs12", "-in", filepath.Join(n.Target(v), "web.p12"),
		"-passin", "file:"+filepath.Join(n.Target(v), "p"), "-nodes")
	var stderr strings.Builder
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("openssl: %v: %s", err, stderr.String())
	}
	key, _, _ := strings.Cut(node.ReadFile(t, filepath.Join(n.Target(v), "web.pem")), "-----BEGIN CERTIFICATE-----")
	if !bytes.Contains(out, []byte(key)) || !bytes.Contains(out, []byte("friendlyName: web\n")) {
		t.Errorf("OpenSSL reads %s", out)
	}
}

func TestKeystoreRefused(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	setCertificate(t, n, "web", devcloud.CertificateOptions{})
	n.Vault.SetSecret("empty", "\n", devcloud.SecretOptions{})
	pfx := func(password string) kubelet.Volume {
		return workload("objects", "- {certificate: web, pfx: web.p12, pfxPassword: {secret: "+password+"}}")
	}
	refused(t, n, pfx("none"), codes.NotFound, `objects[0].pfxPassword: secret "none" of https://shop.vault.azure.net as workload `+node.WorkloadID+
		`: HTTP 404 SecretNotFound: there is no such object; check the name, or recover it if it was deleted`)
	refused(t, n, pfx("empty"), codes.FailedPrecondition, `objects[0].pfxPassword: secret "empty" of https://shop.vault.azure.net `+
		`is empty, which is no password; set one, or leave pfxPassword out for the vault's own PKCS#12 file`)
}

// TestPublicCertificateAlone: an identity without rights on secrets gets the public part of a key that cannot be exported.
func TestPublicCertificateAlone(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	setCertificate(t, n, "hsm", devcloud.CertificateOptions{NotExportable: true})
	n.Vault.Deny(node.WorkloadID)
	v := workload("objects", "- {certificate: hsm, source: certificate}\n- {certificate: hsm, source: certificate, chain: tls/chain.crt, mode: '0440'}")
	refused(t, n, v, codes.PermissionDenied, `objects[0]: public certificate "hsm" of https://shop.vault.azure.net as workload `+node.WorkloadID+
		`: HTTP 403 Forbidden, ForbiddenByPolicy: the identity may not do certificates/get; add it to the vault's access policy, or assign the role "Key Vault Certificate User"`)
	n.Vault.Grant(node.WorkloadID, devcloud.CertificatesGet)
	publishAgain(t, n, v)
	leaf := node.ReadFile(t, filepath.Join(n.Target(v), "hsm.crt"))
	if !strings.HasPrefix(leaf, "-----BEGIN CERTIFICATE-----\n") || strings.Count(leaf, "BEGIN") != 1 {
		t.Errorf("the file is %s", leaf)
	}
	if chain := node.ReadFile(t, filepath.Join(n.Target(v), "tls/chain.crt")); chain != leaf {
		t.Errorf("the chain is %s, want the leaf", chain)
	}
	if got := n.MustMetric(t, `keyvault_csi_certificates`); got != 1 {
		t.Errorf("%v certificates are counted, want 1", got)
	}
}

// TestManifest: a manifest says which versions a volume holds. Its time is that of the first fetch of this content, so that readers see no
// change after a refresh or a restart. Another version of the same value is other content.
func TestManifest(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	n.Vault.SetSecret("a", "value", devcloud.SecretOptions{Version: strings.Repeat("1", 32)})
	v := workload("objects", "- manifest: versions.json\n- secret: a")
	n.MustPublish(t, v)
	type manifest struct {
		Fetched time.Time
		Objects []struct{ Source, Version string }
	}
	read := func() (m manifest) {
		t.Helper()
		if err := json.Unmarshal([]byte(node.ReadFile(t, filepath.Join(n.Target(v), "versions.json"))), &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	first := read()
	if len(first.Objects) != 1 || first.Objects[0].Version != strings.Repeat("1", 32) || first.Objects[0].Source != "objects[1]" {
		t.Errorf("the manifest is %+v", first)
	}
	suite.Eventually(t, "the time of a refresh is another one", func() bool { return time.Since(first.Fetched) > time.Second })
	if refreshed(t, n, v) || !read().Fetched.Equal(first.Fetched) {
		t.Error("a refresh changes the manifest of an unchanged vault")
	}
	if _, err := n.StopDaemon(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := n.StartDaemon(t.Context()); err != nil {
		t.Fatal(err)
	}
	// In a user namespace, what was written cannot be kept where a new process finds it, and the set is made anew.
	if changed := refreshed(t, n, v) || !read().Fetched.Equal(first.Fetched); changed != mountns.InUserNamespace() {
		t.Errorf("a restart changes the manifest of an unchanged vault: %v", changed)
	}
	n.Vault.SetSecret("a", "value", devcloud.SecretOptions{Version: strings.Repeat("2", 32)})
	if !refreshed(t, n, v) || read().Objects[0].Version != strings.Repeat("2", 32) {
		t.Error("another version of the same value is not in the manifest")
	}
}
