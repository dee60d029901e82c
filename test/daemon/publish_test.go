package daemon_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

func TestAPodGetsItsFiles(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	n.Vault.SetSecret("db-password", "hunter2\n", devcloud.SecretOptions{})
	n.Vault.SetSecret("license", base64.StdEncoding.EncodeToString([]byte{0, 1, 2, 0xff}), devcloud.SecretOptions{
		Tags: map[string]string{"file-encoding": "base64"},
	})
	n.Vault.SetSecret("api-key", "6b6579", devcloud.SecretOptions{})
	cert, err := n.Vault.SetCertificate("web-tls", devcloud.CertificateOptions{Intermediates: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Vault.SetKey("signing", devcloud.KeyOptions{}); err != nil {
		t.Fatal(err)
	}
	v := workload(
		"secrets", "db-password;license;web-tls",
		"certificates", "web-tls::leaf.crt",
		"objects", `
- secret: api-key
  path: app/api.key
  encoding: hex
  mode: "0440"
- certificate: web-tls
  chain: tls/web.crt
  key: tls/web.key
- key: signing
`)
	n.MustPublish(t, v)

	chain := pemOf(append([]*x509.Certificate{cert.Leaf}, cert.CAs...)...)
	key, err := x509.MarshalPKCS8PrivateKey(cert.Key)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	leaf76 := "-----BEGIN CERTIFICATE-----\n" + columns(base64.StdEncoding.EncodeToString(cert.Leaf.Raw), 76) + "-----END CERTIFICATE-----\n"
	signing := node.ReadFile(t, filepath.Join(n.Target(v), "signing.pem"))
	if !strings.HasPrefix(signing, "-----BEGIN PUBLIC KEY-----\n") {
		t.Errorf("signing.pem is %q", signing)
	}
	want := []string{
		"app/ rwxr-xr-x",
		"app/api.key r--r----- key",
		"certs/ rwxr-xr-x",
		"certs/leaf.crt rw-r--r-- " + leaf76,
		"certs/web-tls rw-r--r-- " + chain,
		"certs_keys/ rwxr-xr-x",
		"keys/ rwxr-xr-x",
		"keys/web-tls rw-r--r-- " + keyPEM,
		"secrets/ rwxr-xr-x",
		"secrets/db-password rw-r--r-- hunter2\n",
		"secrets/license rw-r--r-- \x00\x01\x02\xff",
		"secrets/web-tls rw-r--r-- " + cert.Value,
		"signing.pem rw-r--r-- " + signing,
		"tls/ rwxr-xr-x",
		"tls/web.crt rw-r--r-- " + chain,
		"tls/web.key rw-r--r-- " + keyPEM,
	}
	if diff := cmp.Diff(want, tree(t, n.Target(v))); diff != "" {
		t.Errorf("the volume differs (-want +got):\n%s", diff)
	}
}

func pemOf(certs ...*x509.Certificate) string {
	var b strings.Builder
	for _, c := range certs {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return b.String()
}

func columns(text string, width int) string {
	var b strings.Builder
	for chunk := range slices.Chunk([]byte(text), width) {
		b.Write(chunk)
		b.WriteByte('\n')
	}
	return b.String()
}

func TestTheMountIsClosedToContainers(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	n.Vault.SetSecret("db-password", "first", devcloud.SecretOptions{})
	v := workload("secrets", "db-password")
	n.MustPublish(t, v)

	all := mounts(t, n)
	if len(all) != 1 || all[0].Target != n.Target(v) || all[0].Type != "tmpfs" {
		t.Fatalf("mounts: %+v, want one tmpfs at %s", all, n.Target(v))
	}
	want := []string{"ro", "nosuid", "nodev", "noexec"}
	for _, option := range want {
		if !slices.Contains(all[0].Options, option) {
			t.Errorf("mount options %v lack %s", all[0].Options, option)
		}
	}
	if mountns.Noswap() && !slices.Contains(all[0].Super, "noswap") {
		t.Errorf("file system options %v lack noswap", all[0].Super)
	}
	// A container gets a bind mount of the target, which may be writable.
	container := filepath.Join(n.Dir, "container")
	if err := os.Mkdir(container, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount(n.Target(v), container, "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	for path, write := range map[string]func(string) error{
		"secrets/db-password": func(p string) error { return os.WriteFile(p, []byte("x"), 0o600) },
		"new":                 func(p string) error { return os.WriteFile(p, []byte("x"), 0o600) },
		"..data":              os.Remove,
		"secrets":             func(p string) error { return os.Chmod(p, 0o777) },
	} {
		if err := write(filepath.Join(container, path)); !errors.Is(err, syscall.EROFS) {
			t.Errorf("writing to %s as root: %v, want EROFS", path, err)
		}
	}
	// A rotation changes it.
	n.Vault.SetSecret("db-password", "second", devcloud.SecretOptions{})
	n.Age(t, v, 3*time.Minute)
	n.MustPublish(t, v)
	if got := node.ReadFile(t, filepath.Join(container, "secrets/db-password")); got != "second" {
		t.Errorf("after a rotation the container reads %q, want %q", got, "second")
	}
}

func TestTenPublishesAreOneMountAndUnpublishTwiceIsFine(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	n.Vault.SetSecret("db-password", "hunter2", devcloud.SecretOptions{})
	v := workload("secrets", "db-password")
	for range 10 {
		n.MustPublish(t, v)
	}
	if all := mounts(t, n); len(all) != 1 {
		t.Errorf("%d mounts after ten publishes, want 1", len(all))
	}
	if got := n.Cloud.Count(devcloud.CountKey{Service: devcloud.ServiceVault, Kind: "secrets/get", Status: 200}); got != 1 {
		t.Errorf("the vault got %d requests for the secret, want 1: nine publishes were inside the interval", got)
	}
	request, err := n.Request(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := n.Driver.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{
			VolumeId: request.GetVolumeId(), TargetPath: request.GetTargetPath(),
		}); err != nil {
			t.Fatalf("unpublish: %v", err)
		}
	}
	n.MustUnpublish(t, v) // once more, and remove the kubelet's folders
	if all := mounts(t, n); len(all) != 0 {
		t.Errorf("mounts left: %+v", all)
	}
	entries, err := os.ReadDir(filepath.Join(n.Root, "pods"))
	if err != nil || len(entries) != 0 {
		t.Errorf("left of the pod: %v, %v", entries, err)
	}
}

// After the first publish, another pod needs one login and one request for each new object. Objects in the cache need none.
func TestRequestsOfAPublish(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{Flags: []string{"--mount-max-age=1h"}})
	n.Vault.SetSecret("db-password", "hunter2", devcloud.SecretOptions{})
	n.Vault.SetSecret("api-key", "x", devcloud.SecretOptions{})
	n.MustPublish(t, workload("secrets", "db-password"))
	cold := n.Cloud.Counts()
	total := 0
	for key, count := range cold {
		if key.Service != devcloud.ServiceProxy {
			total += count
		}
	}
	if total > 5 {
		t.Errorf("the first publish took %d requests, want at most 5: %v", total, cold)
	}
	n.Cloud.ResetCounts()
	second := workload("secrets", "db-password;api-key")
	second.Name = "second"
	n.MustPublish(t, second)
	want := map[devcloud.CountKey]int{
		{Service: devcloud.ServiceVault, Host: "shop.vault.azure.net", Kind: "secrets/get", Status: 200}: 1,
		{Service: devcloud.ServiceLogin, Host: "login.microsoftonline.com", Kind: "token", Status: 200}:  1,
	}
	if diff := cmp.Diff(want, n.Cloud.Counts()); diff != "" {
		t.Errorf("requests of a second volume (-want +got):\n%s", diff)
	}
}

func TestFSGroup(t *testing.T) {
	t.Parallel()
	group := "1234"
	if mountns.InUserNamespace() {
		t.Skip("in the user namespace of an ordinary user no group but its own exists, and gid= of a tmpfs needs one")
	}
	n := node.New(t, node.Options{})
	n.Vault.SetSecret("db-password", "hunter2", devcloud.SecretOptions{})
	v := workload("secrets", "db-password", "objects", `[{secret: db-password, path: app/own, mode: "0400"}]`)
	v.FSGroup = group
	n.MustPublish(t, v)
	want := []string{
		"app/ rwxr-x---+setgid",
		"app/own r-------- hunter2",
		"certs/ rwxr-x---+setgid",
		"certs_keys/ rwxr-x---+setgid",
		"keys/ rwxr-x---+setgid",
		"secrets/ rwxr-x---+setgid",
		"secrets/db-password rw-r----- hunter2",
	}
	if diff := cmp.Diff(want, tree(t, n.Target(v))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, path := range []string{".", "secrets", "secrets/db-password"} {
		info, err := os.Stat(filepath.Join(n.Target(v), path))
		if err != nil {
			t.Fatal(err)
		}
		if gid := info.Sys().(*syscall.Stat_t).Gid; gid != 1234 { //nolint:forcetypeassert // Linux
			t.Errorf("%s belongs to group %d, want 1234", path, gid)
		}
	}
}

func TestServicePrincipalOfTheSecretsStoreProvider(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	n.Vault.SetSecret("db-password", "hunter2", devcloud.SecretOptions{})
	v := workload("secrets", "db-password", "clientID", "")
	v.Secret = map[string]string{"clientid": node.PrincipalID, "clientsecret": node.PrincipalSecret}
	v.NoToken = true
	n.MustPublish(t, v)
	if got := node.ReadFile(t, filepath.Join(n.Target(v), "secrets/db-password")); got != "hunter2" {
		t.Errorf("db-password is %q", got)
	}
}

func TestTokensInTheVolumeContext(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	n.Vault.SetSecret("db-password", "hunter2", devcloud.SecretOptions{})
	v := workload("secrets", "db-password")
	v.TokenInContext = true
	n.MustPublish(t, v)
}

func TestUnpublishAfterARestart(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	n.Vault.SetSecret("db-password", "first", devcloud.SecretOptions{})
	v := workload("secrets", "db-password")
	n.MustPublish(t, v)
	if _, err := n.StopDaemon(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := node.ReadFile(t, filepath.Join(n.Target(v), "secrets/db-password")); got != "first" {
		t.Errorf("without a daemon the pod reads %q", got)
	}
	if err := n.StartDaemon(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.Cloud.ResetCounts()
	n.MustPublish(t, v)
	if counts := n.Cloud.Counts(); len(counts) != 0 {
		t.Errorf("after a restart the daemon fetched a young volume: %v", counts)
	}
	n.MustUnpublish(t, v)
	if all := mounts(t, n); len(all) != 0 {
		t.Errorf("mounts left: %+v", all)
	}
}
