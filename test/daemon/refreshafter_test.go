package daemon_test

import (
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/provider/v1alpha1"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

const metricBefore = "keyvault_csi_volumes_before_refresh_after"

// leak is a node with an operator's policy that allows every workload identity.
type leak struct {
	*node.Node

	policy string // path
}

func newLeak(t *testing.T, flags ...string) leak {
	t.Helper()
	l := leak{policy: filepath.Join(t.TempDir(), "policy.yaml")}
	replace(t, l.policy, `rules: [{namespaces: ["*"], identities: [workload]}]`)
	l.Node = node.New(t, node.Options{Provider: true, Flags: append([]string{"--policy-file=" + l.policy}, flags...)})
	l.Vault.SetSecret("a", "leaked", devcloud.SecretOptions{})
	return l
}

// refreshAll sets a refreshAfter of now for the whole file.
func (l leak) refreshAll(t *testing.T) {
	t.Helper()
	replace(t, l.policy, "refreshAfter: "+time.Now().Format(time.RFC3339Nano)+"\nrules: [{namespaces: [\"*\"], identities: [workload]}]")
}

// pod is a volume with the secret a at the path a.
func (l leak) pod(name string, pairs ...string) kubelet.Volume {
	v := workload(append([]string{"objects", "[{secret: a}]"}, pairs...)...)
	v.Name = name
	return v
}

func (l leak) reads(t *testing.T, v kubelet.Volume, want string) {
	t.Helper()
	if got := node.ReadFile(t, filepath.Join(l.Target(v), "a")); got != want {
		t.Errorf("%s reads %q, want %q", v.Name, got, want)
	}
}

func (l leak) isBefore(t *testing.T, want float64) {
	t.Helper()
	if got := l.MustMetric(t, metricBefore); got != want {
		t.Errorf("%v volumes are from before, want %v", got, want)
	}
}

func (l leak) restart(t *testing.T) {
	t.Helper()
	if _, err := l.StopDaemon(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := l.StartDaemon(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// requests counts the reads of the secret.
func (l leak) requests() int {
	return l.Cloud.Count(devcloud.CountKey{Service: devcloud.ServiceVault, Status: 200})
}

// After a leak: the next call of the kubelet refreshes every set, however young, and with one request, although the value was in
// memory for all of them. A new pod gets no older value either. Without a change of the policy nothing is due.
func TestRefreshAfterALeak(t *testing.T) {
	t.Parallel()
	l := newLeak(t, "--mount-max-age=1h", "--rotation-interval=1h")
	young, never, shared := l.pod("young"), l.pod("never", "rotationInterval", "0"), l.pod("shared")
	all := []kubelet.Volume{young, never, shared}
	for _, v := range all {
		l.MustPublish(t, v)
	}
	l.Vault.SetSecret("a", "rotated", devcloud.SecretOptions{})
	for _, v := range all {
		l.MustPublish(t, v)
		l.reads(t, v, "leaked")
	}
	before := l.requests()
	l.isBefore(t, 0)
	l.refreshAll(t)
	l.isBefore(t, 3)
	fresh := l.pod("fresh")
	l.MustPublish(t, fresh)
	l.reads(t, fresh, "rotated")
	l.isBefore(t, 3)
	for i, v := range all {
		l.MustPublish(t, v)
		l.reads(t, v, "rotated")
		l.isBefore(t, float64(2-i))
	}
	if got := l.requests() - before; got != 1 {
		t.Errorf("%d requests, want 1", got)
	}
	l.Vault.SetSecret("a", "newer", devcloud.SecretOptions{})
	for _, v := range all {
		l.MustPublish(t, v) // once is enough
		l.reads(t, v, "rotated")
	}
	if got := l.MustMetric(t, "keyvault_csi_refresh_after_timestamp_seconds"); time.Since(time.UnixMilli(int64(got*1e3))) > time.Hour {
		t.Errorf("the metric of the policy's refreshAfter says %v", got)
	}
}

// The set on the node has its age with it: the next process knows what is due, and so does one that was down meanwhile.
func TestRefreshAfterARestart(t *testing.T) {
	t.Parallel()
	l := newLeak(t)
	late, done := l.pod("late", "rotationInterval", "0"), l.pod("done", "rotationInterval", "0")
	l.MustPublish(t, late)
	l.MustPublish(t, done)
	l.Vault.SetSecret("a", "rotated", devcloud.SecretOptions{})
	l.refreshAll(t)
	l.MustPublish(t, done)
	l.restart(t)
	l.isBefore(t, 0) // the kubelet has not called yet
	l.Vault.SetSecret("a", "newer", devcloud.SecretOptions{})
	l.MustPublish(t, done)
	l.reads(t, done, "rotated")
	l.MustPublish(t, late)
	l.reads(t, late, "newer")
	l.isBefore(t, 0)
}

// In an outage pods keep their files, and the volumes stay in the metric. No new pod gets a value from before, neither a young
// one nor the last known.
func TestRefreshAfterInAnOutage(t *testing.T) {
	t.Parallel()
	l := newLeak(t, "--mount-max-age=1h", "--last-known-good=24h")
	never, often, outage := l.pod("never", "rotationInterval", "0"), l.pod("often"), l.pod("outage")
	l.MustPublish(t, never)
	l.MustPublish(t, often)
	stop, err := l.Cloud.Inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Reset})
	if err != nil {
		t.Fatal(err)
	}
	l.MustPublish(t, outage) // of the same service account, from memory
	l.refreshAll(t)
	const text = `objects[0]: secret "a" of https://shop.vault.azure.net as workload 11111111-2222-3333-4444-555555555555: ` +
		"no answer from shop.vault.azure.net: the connection broke; check the network between the node and it"
	for _, v := range []kubelet.Volume{never, often, outage} {
		l.MustPublish(t, v)
		l.reads(t, v, "leaked")
		if got := health(t, l.Node, v.ID(), l.Target(v)); got != text {
			t.Errorf("the health of %s is %q, want %q", v.Name, got, text)
		}
	}
	l.isBefore(t, 3)
	fresh := l.pod("fresh")
	if err := l.Publish(t.Context(), fresh); status.Code(err) != codes.Unavailable || status.Convert(err).Message() != text {
		t.Errorf("a new pod: %v, want Unavailable: %s", err, text)
	}
	l.Age(t, never, time.Hour)
	if err := l.Publish(t.Context(), never); status.Code(err) != codes.Unavailable || status.Convert(err).Message() != text {
		t.Errorf("an old set: %v, want Unavailable: %s", err, text)
	}
	l.reads(t, never, "leaked")
	stop()
	l.Vault.SetSecret("a", "rotated", devcloud.SecretOptions{})
	l.restart(t) // ends the pause after a failure
	for _, v := range []kubelet.Volume{fresh, never, often, outage} {
		l.MustPublish(t, v)
		l.reads(t, v, "rotated")
	}
	l.isBefore(t, 0)
}

// The value of a version cannot change, but a version can be disabled: it is asked for again.
func TestRefreshAfterOfAVersion(t *testing.T) {
	t.Parallel()
	l := newLeak(t, "--mount-max-age=1h", "--last-known-good=24h")
	version := l.Vault.SetSecret("a", "leaked", devcloud.SecretOptions{})
	pinned := []string{"rotationInterval", "0", "objects", "[{secret: a, version: " + version + "}]"}
	v := l.pod("pod", pinned...)
	l.MustPublish(t, v)
	if err := l.Vault.Disable(devcloud.Secrets, "a", version); err != nil {
		t.Fatal(err)
	}
	l.MustPublish(t, l.pod("from-memory", pinned...))
	l.refreshAll(t)
	text := `objects[0]: secret "a" version ` + version + " of https://shop.vault.azure.net as workload 11111111-2222-3333-4444-555555555555: " +
		"HTTP 403 Forbidden, SecretDisabled: it is disabled; enable it, or mark the object optional"
	if err := l.Publish(t.Context(), l.pod("next", pinned...)); status.Code(err) != codes.FailedPrecondition || status.Convert(err).Message() != text {
		t.Errorf("a new pod: %v, want FailedPrecondition: %s", err, text)
	}
	l.MustPublish(t, v)
	l.reads(t, v, "leaked")
	if got := health(t, l.Node, v.ID(), l.Target(v)); got != text {
		t.Errorf("the health is %q, want %q", got, text)
	}
	l.isBefore(t, 2)
}

// It holds for the pods of the Secrets Store CSI Driver too, whose polls and first mounts read from the same memory.
func TestRefreshAfterForTheProvider(t *testing.T) {
	t.Parallel()
	l := newLeak(t, "--mount-max-age=1h", "--rotation-interval=1h", "--last-known-good=24h")
	class := node.Class("web", "objects", objects("a"))
	wantPoll := func(want string) {
		t.Helper()
		response := mounted(t, l.Node, class, &v1alpha1.ObjectVersion{Id: "secret/a", Version: "1"})
		if files, _ := answered(response); len(files) != 1 || files[0] != "a 0644 "+want {
			t.Errorf("a poll answers %q, want %q", files, want)
		}
	}
	wantFiles(t, l.Node, class, "a 0644 leaked")
	l.Vault.SetSecret("a", "rotated", devcloud.SecretOptions{})
	wantPoll("leaked")
	l.refreshAll(t)
	before := l.requests()
	wantPoll("rotated")
	wantFiles(t, l.Node, node.Class("next", "objects", objects("a")), "a 0644 rotated")
	if got := l.requests() - before; got != 1 {
		t.Errorf("%d requests, want 1", got)
	}
	l.isBefore(t, 0) // counts our own volumes alone

	l.refreshAll(t)
	if _, err := l.Cloud.Inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Reset}); err != nil {
		t.Fatal(err)
	}
	const text = `objects[0]: secret "a" of https://shop.vault.azure.net as workload 11111111-2222-3333-4444-555555555555: ` +
		"no answer from shop.vault.azure.net: the connection broke; check the network between the node and it"
	refusedMount(t, l.Node, node.Class("during", "objects", objects("a")), codes.Unavailable, text)
}
