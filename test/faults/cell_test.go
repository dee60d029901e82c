package faults_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/aging"
	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// call is what the kubelet asks for when the fault is there.
type call struct {
	name string
	list bool          // a volume with secrets: "*"
	age  time.Duration // of the set that is there; 0 means a first publish
}

// The volumes' interval is 30s, so that a failed refresh is put up with for five minutes.
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

// cell is one fault and one call, with a vault and a directory that nobody else uses.
type cell struct {
	fault fault
	call  call

	t      *testing.T
	w      *world
	tenant string
	id     string // of the identity
	vault  *devcloud.Vault
	volume kubelet.Volume
	files  []string // before the fault
}

func (w *world) newCell(t *testing.T, f fault, call call) *cell {
	t.Helper()
	number := w.cells.Add(1)
	c := &cell{
		fault: f, call: call, t: t, w: w,
		tenant: fmt.Sprintf("7f0c6a3e-0000-4a8b-8d0e-%012d", number),
		id:     fmt.Sprintf("11111111-2222-3333-4444-%012d", number),
	}
	identity := devcloud.Identity{Tenant: c.tenant, ClientID: c.id, Managed: w.managed}
	if !w.managed {
		identity.Federated = []devcloud.FederatedCredential{{Issuer: w.Issuer.URL(), Subject: "system:serviceaccount:" + node.Namespace + ":" + node.ServiceAccount}}
	}
	if err := w.Cloud.AddIdentity(identity); err != nil {
		t.Fatal(err)
	}
	var err error
	if c.vault, err = w.Cloud.AddVault(fmt.Sprintf("fault-%d", number), devcloud.VaultOptions{Tenant: c.tenant}); err != nil {
		t.Fatal(err)
	}
	c.vault.Grant(c.id)
	c.vault.SetSecret("value", "first", devcloud.SecretOptions{})
	c.volume = kubelet.Volume{
		Name: fmt.Sprintf("fault-%d", number), Namespace: node.Namespace, ServiceAccount: node.ServiceAccount,
		Attributes: map[string]string{
			"vault": c.vault.URL(), "clientID": c.id, "identity": w.identity(), "rotationInterval": interval,
		},
	}
	switch {
	case call.list:
		c.volume.Attributes["secrets"] = "*"
	case f.objects != "":
		c.volume.Attributes["objects"] = f.objects
	default:
		c.volume.Attributes["secrets"] = "value"
	}
	return c
}

func (w *world) identity() string {
	if w.managed {
		return "managed"
	}
	return "workload"
}

func (c *cell) errorf(format string, args ...any) {
	c.t.Helper()
	c.t.Errorf("%s: %s", c.call.name, fmt.Sprintf(format, args...))
}

// prepare gets everything there that is there before the fault.
func (c *cell) prepare() {
	if c.fault.prepare != nil {
		if err := c.fault.prepare(c); err != nil {
			c.errorf("%v", err)
			return
		}
	}
	if c.fault.warm || c.fault.within != 0 { // connections take time, of which the latter have little
		other := c.volume
		other.Name += "-warm"
		if err := c.publish(other); err != nil {
			c.errorf("before the fault: %v", err)
		}
		if err := c.w.Unpublish(c.t.Context(), other); err != nil {
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
	c.grow(c.call.age)
}

// grow gives the set an age.
func (c *cell) grow(age time.Duration) {
	if err := aging.Set(c.w.Target(c.volume), time.Now().Add(-age)); err != nil {
		c.errorf("%v", err)
	}
}

// patience is how long the caller waits. Whatever the fault, the answer comes long before.
const patience = 60 * time.Second

// publish calls as the kubelet does. Any end of the caller's time is an error of the daemon.
func (c *cell) publish(v kubelet.Volume) error {
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	err := c.w.Publish(ctx, v)
	if ctx.Err() != nil {
		return fmt.Errorf("no answer for %v: %w", patience, err)
	}
	return err
}

// grace is what a call may take beyond the time of its volume, on a machine with much else to do.
const grace = 5 * time.Second

// meets makes the call while the fault is there, and gives by how much it exceeded the volume's own time.
func (c *cell) meets() (over time.Duration) {
	c.volume.Attributes["timeout"] = c.fault.timeout().String()
	began := time.Now()
	err := c.publish(c.volume)
	over = time.Since(began) - c.fault.timeout()
	if over > grace {
		c.errorf("answered %v after the end of the volume's time of %v", over, c.fault.timeout())
	}
	want, code := c.text(), c.fault.codeFor(c.call)
	got := status.Convert(err)
	if got.Code() != code || code != codes.OK && got.Message() != want {
		c.errorf("\n got %s: %s\nwant %s: %s", got.Code(), got.Message(), code, want)
	}
	if c.call.age == 0 {
		if code != codes.OK {
			c.nothing()
		}
		return over
	}
	if c.fault.healed {
		if !c.holds("second") {
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

// text is what the daemon says of the fault.
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
		tail = " as " + c.w.identity() + " " + c.id + ": " + tail
	}
	text := what + " of " + c.vault.URL() + c.replaced(tail)
	if c.fault.code == codes.DeadlineExceeded {
		text = fmt.Sprintf("not ready within the volume's timeout of %s (attribute timeout): %s", c.fault.timeout(), text)
	}
	return text
}

// nothing checks that there is neither target nor mount.
func (c *cell) nothing() {
	if _, err := os.Lstat(c.w.Target(c.volume)); !errors.Is(err, fs.ErrNotExist) {
		c.errorf("the target is there: %v", err)
	}
	if mounts, err := kubelet.Mounts(c.w.PodDir(c.volume)); err != nil || len(mounts) != 0 {
		c.errorf("mounts: %v %v", mounts, err)
	}
}

// recovers calls again and again, as the kubelet does, now that the fault is over.
//
// After a failure of a vault or of Entra ID an object is left alone for 10 to 30 s. The long form waits for that. The
// short one asks for the same target, and in the same vault, for objects that nobody has asked for.
func (c *cell) recovers() {
	literal := suite.Long() || c.fault.refusal()
	want := "second"
	switch {
	case c.call.age == 0 && c.fault.healed:
		want = "first" // it is there, and young
	case c.fault.objects != "":
		want = ""
	default:
		c.vault.SetSecret("value", want, devcloud.SecretOptions{})
	}
	if c.call.age != 0 && c.fault.healed {
		c.grow(c.call.age)
	}
	limit := time.Now().Add(time.Minute)
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
		if err == nil && len(c.health()) == 0 && c.holds(want) {
			return
		}
		if time.Now().After(limit) {
			c.errorf("after the fault: %v, files %q, health %q", err, c.tree(), c.health())
			return
		}
		<-again.C
	}
}

// holds says whether a file of the volume has the content; an empty one is not looked for.
func (c *cell) holds(content string) bool {
	if content == "" {
		return true
	}
	return slices.ContainsFunc(c.tree(), func(line string) bool { return strings.HasSuffix(line, " "+content) })
}

// leaves removes the volume, and looks whether anything is left.
func (c *cell) leaves() {
	if err := c.w.Unpublish(c.t.Context(), c.volume); err != nil {
		c.errorf("unpublish: %v", err)
	}
	c.nothing()
}

// health is "REASON: TEXT" for all that the node says of the volume.
func (c *cell) health() (said []string) {
	response, err := c.w.Driver.NodeGetVolumeHealth(c.t.Context(), &csi.NodeGetVolumeHealthRequest{
		VolumeId: c.volume.ID(), VolumePublishPath: c.w.Target(c.volume),
	})
	if err != nil {
		c.errorf("health: %v", err)
	}
	for _, entry := range response.GetVolumeHealth().GetHealthStatuses() {
		said = append(said, entry.GetReason()+": "+entry.GetMessage())
	}
	return said
}

// tree is everything in the volume, the driver's own folders and links included: "path mode content".
func (c *cell) tree() (lines []string) {
	root := c.w.Target(c.volume)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		line := rel + " " + info.Mode().String()
		switch {
		case entry.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " " + target
		case entry.Type().IsRegular():
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += " " + string(content)
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		c.errorf("the volume cannot be read: %v", err)
	}
	return lines
}

// slowest is the longest of many times.
type slowest struct {
	mu  sync.Mutex
	max time.Duration
}

func (s *slowest) add(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.max = max(s.max, d)
}

func (s *slowest) get() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.max.Round(time.Millisecond)
}
