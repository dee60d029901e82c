package daemon_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// TestPolicyThroughTheSocket checks that the daemon applies the policy, with the pod information of the kubelet and with every vault of the
// volume. pkg/policy has the table of rules and requests.
func TestPolicyThroughTheSocket(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "policy.yaml")
	replace(t, file, `
rules:
- {effect: deny, namespaces: ["*"], serviceAccounts: [default], identities: [workload]}
- {namespaces: ["shop*"], identities: [workload], vaults: ["https://shop.vault.azure.net"]}
- {namespaces: [shop], identities: [workload], vaults: ["https://shop-2.*"]}
`)
	n := node.New(t, node.Options{Flags: []string{"--policy-file=" + file}})
	second, err := n.Cloud.AddVault("shop-2", devcloud.VaultOptions{Tenant: node.Tenant})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Cloud.AddVault("bank", devcloud.VaultOptions{Tenant: node.Tenant}); err != nil {
		t.Fatal(err)
	}
	second.Grant(node.WorkloadID)
	n.Vault.SetSecret("a", "value", devcloud.SecretOptions{})
	second.SetSecret("a", "value", devcloud.SecretOptions{})
	const refusal = "the driver's policy does not let service account "
	pod := func(namespace, account string, pairs ...string) kubelet.Volume {
		v := workload(append([]string{"secrets", "a"}, pairs...)...)
		v.Namespace, v.ServiceAccount = namespace, account
		return v
	}
	n.MustPublish(t, pod("shop", "web"))
	n.MustPublish(t, pod("shop", "web", "secrets", "", "objects", "[{secret: a}, {secret: a, vault: shop-2, path: b}]")) // the same volume, still young
	n.MustUnpublish(t, pod("shop", "web"))
	n.MustPublish(t, pod("shop", "web", "secrets", "", "objects", "[{secret: a}, {secret: a, vault: shop-2, path: b}]"))
	n.MustUnpublish(t, pod("shop", "web"))
	before := n.Cloud.Count(devcloud.CountKey{})
	spoofed := pod("bank", "web")
	spoofed.Attributes["csi.storage.k8s.io/pod.namespace"] = "shop" // the kubelet overwrites it
	for _, row := range []struct {
		volume    kubelet.Volume
		who, text string
	}{
		{pod("shop", "default"), "shop/default", "rules[0] denies it; the operator must change that rule, or put before it one such as "},
		{pod("bank", "web"), "bank/web", "no rule of the policy file allows it; the operator must add one, such as "},
		{spoofed, "bank/web", "no rule of the policy file allows it; the operator must add one, such as "},
		{pod("my-shop", "web"), "my-shop/web", "no rule of the policy file allows it; the operator must add one, such as "},
		{pod("shop", "web", "vault", "bank"), "shop/web", "no rule of the policy file allows it; the operator must add one, such as "},
		{pod("shop", "web", "objects", "[{secret: a, vault: bank, path: b}]"), "shop/web", "no rule of the policy file allows it; the operator must add one, such as "},
		{
			pod("shop", "web", "objects", "[{certificate: a, pfx: b, pfxPassword: {secret: p, vault: bank}}]"), "shop/web",
			"no rule of the policy file allows it; the operator must add one, such as ",
		},
		{
			pod("shop", "web", "objects", "[{env: a, from: [{secret: a}, {secret: b, vault: bank}]}]"), "shop/web",
			"no rule of the policy file allows it; the operator must add one, such as ",
		},
		{pod("shop-eu", "web", "objects", "[{secret: a, vault: shop-2, path: b}]"), "shop-eu/web", "no rule of the policy file allows it; the operator must add one, such as "},
	} {
		vault := "https://shop.vault.azure.net"
		for _, name := range []string{"bank", "shop-2"} {
			if strings.Contains(row.volume.Attributes["vault"]+row.volume.Attributes["objects"], name) {
				vault = "https://" + name + ".vault.azure.net"
			}
		}
		namespace, account, _ := strings.Cut(row.who, "/")
		refused(t, n, row.volume, codes.PermissionDenied, fmt.Sprintf("%s%s use identity workload %s at %s: %s{namespaces: [%q], serviceAccounts: [%q], "+
			"identities: [workload], clientIDs: [%q], vaults: [%q]}", refusal, row.who, node.WorkloadID, vault, row.text, namespace, account, node.WorkloadID, vault))
	}
	if after := n.Cloud.Count(devcloud.CountKey{}); after != before {
		t.Errorf("refused volumes made %d requests", after-before)
	}
}

// configMap is a folder with the layout of a ConfigMap volume: the file is a link through ..data, which is swapped.
type configMap struct {
	dir    string
	number int
}

func (c *configMap) file() string { return filepath.Join(c.dir, "policy.yaml") }

func (c *configMap) put(t *testing.T, text string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	old, folder := filepath.Join(c.dir, "..set-"+strconv.Itoa(c.number)), filepath.Join(c.dir, "..set-"+strconv.Itoa(c.number+1))
	c.number++
	must(os.Mkdir(folder, 0o750))
	must(os.WriteFile(filepath.Join(folder, "policy.yaml"), []byte(text), 0o600))
	must(os.Symlink(filepath.Base(folder), filepath.Join(c.dir, "..data_tmp")))
	must(os.Rename(filepath.Join(c.dir, "..data_tmp"), filepath.Join(c.dir, "..data")))
	must(os.RemoveAll(old))
	if c.number == 1 {
		must(os.Symlink("..data/policy.yaml", c.file()))
	}
}

// TestPolicyReload swaps the policy under load. The rules between two swaps must apply to each publish that began and ended between them. An
// invalid file changes only the metric and the log.
func TestPolicyReload(t *testing.T) {
	t.Parallel()
	const open, closed = `rules: [{namespaces: [shop], identities: [workload]}]`, `rules: [{namespaces: [bank], identities: [workload]}]`
	policy := &configMap{dir: t.TempDir()}
	policy.put(t, open)
	n := node.New(t, node.Options{Flags: []string{"--policy-file=" + policy.file()}})
	n.Vault.SetSecret("a", "value", devcloud.SecretOptions{})

	var state atomic.Int64 // 4*swap + 1 while open, 2 while closed, 0 while swapping
	state.Store(1)
	const swaps = 30
	var answered [swaps + 1]atomic.Int64 // answers between two swaps
	stop := make(chan struct{})
	var askers sync.WaitGroup
	for i := range 3 {
		v := workload("secrets", "a")
		v.Name = "asker-" + strconv.Itoa(i)
		askers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				before := state.Load()
				err := n.Publish(t.Context(), v)
				after := state.Load()
				if err := n.Unpublish(t.Context(), v); err != nil {
					t.Errorf("unpublish: %v", err)
					return
				}
				if before%4 == 0 || before != after {
					continue
				}
				answered[before/4].Add(1)
				want := map[int64]codes.Code{1: codes.OK, 2: codes.PermissionDenied}[before%4]
				if status.Code(err) != want {
					t.Errorf("after swap %d: %v, want %s", before/4, err, want)
					return
				}
			}
		})
	}
	phase := int64(1)
	for swap := int64(1); swap <= swaps && !t.Failed(); swap++ {
		state.Store(4 * swap)
		switch swap % 3 {
		case 0:
			policy.put(t, "rules: [{namespaces: [shop], identities: [everything]}]")
		case 1:
			policy.put(t, closed)
			phase = 2
		case 2:
			policy.put(t, open)
			phase = 1
		}
		state.Store(4*swap + phase)
		for answered[swap].Load() < 3 && !t.Failed() { // so that the file is used before the next swap
			select {
			case <-t.Context().Done():
				t.Fatal("no publish ends")
			case <-time.After(time.Millisecond):
			}
		}
	}
	close(stop)
	askers.Wait()
	_, metrics, err := n.Get(t.Context(), "/metrics")
	if want := fmt.Sprintf("\nkeyvault_csi_policy_reload_errors_total %d\n", swaps/3); err != nil || !strings.Contains(metrics, want) {
		t.Errorf("the metrics lack %q", want)
	}
	if code, body, err := n.Get(t.Context(), "/readyz"); code != 200 || !strings.HasPrefix(body, "ok, but the policy file "+policy.file()+" cannot be used: ") ||
		!strings.HasSuffix(body, "; the last good rules hold\n") {
		t.Errorf("of a broken policy /readyz says: %d %s %v", code, body, err)
	}
	for _, line := range []string{
		"the policy file cannot be used; the last good rules hold", `rules[0].identities[0]`, "policy reloaded",
	} {
		if !strings.Contains(n.Output(), line) {
			t.Errorf("the log lacks %q", line)
		}
	}
}

// A published volume keeps its files when the policy denies it. The next pod gets no files.
func TestPolicyTakesNothingAway(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "policy.yaml")
	replace(t, file, `rules: [{namespaces: ["*"], identities: [workload]}]`)
	n := node.New(t, node.Options{Flags: []string{"--policy-file=" + file}})
	n.Vault.SetSecret("a", "value", devcloud.SecretOptions{})
	v := workload("secrets", "a")
	n.MustPublish(t, v)
	replace(t, file, "rules: []")
	n.Age(t, v, 3*time.Minute)
	n.MustPublish(t, v) // tolerated like every failed refresh
	n.Age(t, v, time.Hour)
	if err := n.Publish(t.Context(), v); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "no rule of the policy file allows it") {
		t.Errorf("publish of an old set: %v, want Unavailable with the refusal", err)
	}
	if got := node.ReadFile(t, filepath.Join(n.Target(v), "secrets/a")); got != "value" {
		t.Errorf("the pod reads %q", got)
	}
	next := v
	next.Name = "next"
	if err := n.Publish(t.Context(), next); status.Code(err) != codes.PermissionDenied {
		t.Errorf("the next pod: %v, want PermissionDenied", err)
	}
}

// Invalid flags about permissions are errors.
func TestBadFlagsOfIdentities(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	binary, err := node.DaemonBinary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ flag, line string }{
		{"--policy-file=policy.yaml", `--policy-file: "policy.yaml" is not an absolute path`},
		{"--default-change-detection=lists", `--default-change-detection: "lists" is neither read nor list`},
		{"--default-identity=workload", `--default-identity: "workload" is neither cluster nor managed`},
		{"--cluster-identity-file=azure.json", `--cluster-identity-file: "azure.json" is not an absolute path`},
	} {
		cmd := exec.CommandContext(t.Context(), binary, "--node-id=n", "--http-address=", "--endpoint=unix://"+dir+"/csi.sock", row.flag)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		err := cmd.Run()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 2 || stderr.String() != "keyvault-csi-driver: "+row.line+" (see --help)\n" {
			t.Errorf("%s: %v, wrote\n %q, want exit code 2 and\n %q", row.flag, err, stderr.String(), row.line)
		}
	}
}
