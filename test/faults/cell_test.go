package faults_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/aging"
	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// call is what the kubelet asks for during the fault.
type call struct {
	name string
	list bool          // a volume with secrets: "*"
	age  time.Duration // of the set that is mounted; 0 means a first publish
}

// With an interval of 30s the daemon tolerates failed refreshes for five minutes.
const (
	interval = "30s"
	young    = 3 * time.Minute
	old      = 7 * time.Minute
)

var calls = []call{
	{name: "first publish"},
	{name: "refresh of a young set", age: young},
	{name: "refresh of an old set", age: old},
	{name: "first publish of a list", list: true},
	{name: "refresh of an old list", list: true, age: old},
}

// cell is one fault and one call, with a vault and a tenant of its own.
type cell struct {
	fault fault
	call  call

	t      *testing.T
	fx     *fixture
	tenant string
	id     string // of the identity
	vault  *devcloud.Vault
	volume kubelet.Volume
	files  []string // before the fault
}

func (fx *fixture) newCell(t *testing.T, f fault, call call) *cell {
	t.Helper()
	number := fx.cells.Add(1)
	c := &cell{
		fault: f, call: call, t: t, fx: fx,
		tenant: fmt.Sprintf("7f0c6a3e-0000-4a8b-8d0e-%012d", number),
		id:     fmt.Sprintf("11111111-2222-3333-4444-%012d", number),
	}
	identity := devcloud.Identity{Tenant: c.tenant, ClientID: c.id, Managed: fx.managed}
	if !fx.managed {
		identity.Federated = []devcloud.FederatedCredential{{Issuer: fx.Issuer.URL(), Subject: "system:serviceaccount:" + node.Namespace + ":" + node.ServiceAccount}}
	}
	if err := fx.Cloud.AddIdentity(identity); err != nil {
		t.Fatal(err)
	}
	var err error
	if c.vault, err = fx.Cloud.AddVault(fmt.Sprintf("fault-%d", number), devcloud.VaultOptions{Tenant: c.tenant}); err != nil {
		t.Fatal(err)
	}
	c.vault.Grant(c.id)
	c.vault.SetSecret("value", "first", devcloud.SecretOptions{})
	c.volume = kubelet.Volume{
		Name: fmt.Sprintf("fault-%d", number), Namespace: node.Namespace, ServiceAccount: node.ServiceAccount,
		Attributes: map[string]string{
			"vault": c.vault.URL(), "clientID": c.id, "identity": fx.identity(), "rotationInterval": interval,
		},
	}
	switch {
	case call.list && f.selects != "":
		c.volume.Attributes["objects"] = f.selects
	case call.list:
		c.volume.Attributes["secrets"] = "*"
	case f.objects != "":
		c.volume.Attributes["objects"] = f.objects
	default:
		c.volume.Attributes["secrets"] = "value"
	}
	return c
}

func (fx *fixture) identity() string {
	if fx.managed {
		return "managed"
	}
	return "workload"
}

func (c *cell) errorf(format string, args ...any) {
	c.t.Helper()
	c.t.Errorf("%s: %s", c.call.name, fmt.Sprintf(format, args...))
}

// prepare makes the state before the fault.
func (c *cell) prepare() {
	if c.fault.prepare != nil {
		if err := c.fault.prepare(c); err != nil {
			c.errorf("%v", err)
			return
		}
	}
	if c.fault.warm || c.fault.within != 0 { // to open connections takes time, and a fault with a short timeout has little
		other := c.volume
		other.Name += "-warm"
		if err := c.publish(other); err != nil {
			c.errorf("before the fault: %v", err)
		}
		if err := c.fx.Unpublish(c.t.Context(), other); err != nil {
			c.errorf("before the fault: %v", err)
		}
	}
	if c.call.age == 0 {
		return
	}
	if err := c.publish(c.volume); err != nil {
		c.errorf("before the fault: %v", err)
		return
	}
	c.files = c.tree()
	c.vault.SetSecret("value", "second", devcloud.SecretOptions{})
	c.setAge(c.call.age)
}

// setAge makes the set look as old as this.
func (c *cell) setAge(age time.Duration) {
	if err := aging.Set(c.fx.Target(c.volume), time.Now().Add(-age)); err != nil {
		c.errorf("%v", err)
	}
}

// publish calls as the kubelet does. The daemon must answer before the caller gives up.
func (c *cell) publish(v kubelet.Volume) error {
	ctx, cancel := context.WithTimeout(c.t.Context(), suite.Patience)
	defer cancel()
	err := c.fx.Publish(ctx, v)
	if ctx.Err() != nil {
		return fmt.Errorf("no answer for %v: %w", suite.Patience, err)
	}
	return err
}

// checkDuring makes the call during the fault. over is how much longer than the volume's timeout it took.
func (c *cell) checkDuring() (over time.Duration) {
	c.volume.Attributes["timeout"] = c.fault.timeout().String()
	began := time.Now()
	err := c.publish(c.volume)
	over = time.Since(began) - c.fault.timeout()
	want, code := c.text(), c.fault.codeFor(c.call)
	got := status.Convert(err)
	if got.Code() != code || code != codes.OK && got.Message() != want {
		c.errorf("\n got %s: %s\nwant %s: %s", got.Code(), got.Message(), code, want)
	}
	if c.call.age == 0 {
		if code != codes.OK {
			c.checkAbsent()
		}
		return over
	}
	if c.fault.healed {
		if !c.contains("second") {
			c.errorf("not refreshed: %q", c.tree())
		}
		return over
	}
	if diff := cmp.Diff(c.files, c.tree()); diff != "" {
		c.errorf("the files have changed (-before +after):\n%s", diff)
	}
	reason := "Stale"
	if c.call.age == young {
		reason = "RefreshFailed"
	}
	if diff := cmp.Diff([]string{reason + ": " + want}, c.health()); diff != "" {
		c.errorf("the volume's health (-want +got):\n%s", diff)
	}
	return over
}

// text is the daemon's error for the fault.
func (c *cell) text() string {
	tail := c.fault.says
	if c.call.age != 0 && c.fault.again != "" {
		tail = c.fault.again
	}
	what := `secrets[0]: secret "value"`
	switch {
	case c.call.list && c.fault.objects != "":
		what, tail = c.fault.listed, " "+tail
	case c.call.list:
		what = "secrets[0]: the list of secrets"
	case c.fault.objects != "":
		what, tail = c.fault.object, " "+tail
	}
	if c.fault.objects == "" {
		tail = " as " + c.fx.identity() + " " + c.id + ": " + tail
	}
	text := what + " of " + c.vault.URL() + c.replaced(tail)
	if c.fault.code == codes.DeadlineExceeded {
		text = fmt.Sprintf("not ready within the volume's timeout of %s (attribute timeout): %s", c.fault.timeout(), text)
	}
	return text
}

// checkAbsent checks that there is neither a target nor a mount.
func (c *cell) checkAbsent() {
	if _, err := os.Lstat(c.fx.Target(c.volume)); !errors.Is(err, fs.ErrNotExist) {
		c.errorf("the target is there: %v", err)
	}
	if mounts, err := kubelet.Mounts(c.fx.PodDir(c.volume)); err != nil || len(mounts) != 0 {
		c.errorf("mounts: %v %v", mounts, err)
	}
}

// checkAfter calls repeatedly, as the kubelet does, after the fault.
//
// After a failure of a vault or of Entra ID the daemon does not ask for an object for 10 to 30 s. The long form waits for that. The
// short form publishes other objects of the same vault at the same target.
func (c *cell) checkAfter() {
	literal := suite.Long() || c.fault.refusal()
	want := "second"
	switch {
	case c.call.age == 0 && c.fault.healed:
		want = "first" // it was published a moment ago
	case c.fault.objects != "":
		want = ""
	default:
		c.vault.SetSecret("value", want, devcloud.SecretOptions{})
	}
	if c.call.age != 0 && c.fault.healed {
		c.setAge(c.call.age)
	}
	limit := time.Now().Add(suite.Patience)
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for attempt := 0; ; attempt++ {
		v := c.volume
		v.Attributes = maps.Clone(v.Attributes)
		delete(v.Attributes, "timeout")
		if !literal {
			want = fmt.Sprintf("fresh-%03d", attempt)
			c.vault.SetSecret(want, want, devcloud.SecretOptions{})
			delete(v.Attributes, "objects")
			v.Attributes["secrets"] = want
			if c.call.list {
				delete(v.Attributes, "secrets")
				v.Attributes["objects"] = "- secrets: {prefix: " + want + "}"
			}
		}
		err := c.publish(v)
		if err == nil && len(c.health()) == 0 && c.contains(want) {
			return
		}
		if time.Now().After(limit) {
			c.errorf("after the fault: %v, files %q, health %q", err, c.tree(), c.health())
			return
		}
		<-again.C
	}
}
