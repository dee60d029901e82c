package e2e

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
)

// testReadOnlyIsRequired: the pod's event has the required line.
func testReadOnlyIsRequired(t *testing.T, e *env) {
	v := e.newVault(t)
	v.set(t, "password", "x")
	p := e.start(t, "writable", volume{writable: true, attributes: v.objects("- secret: password")})
	p.awaitEvent(t, "code = InvalidArgument desc = the volume is not read-only, and nothing may write to it; set readOnly: true under csi")
}

// attackers are containers with uid 0: without capabilities, with the default capabilities, and with a read-only volumeMount. Each also has a
// subPath of its volume.
func attackers(attributes map[string]string) map[string]volume {
	root := volume{namespace: agentNamespace, root: true, attributes: attributes, subPaths: map[string]string{"/mnt/app": "app"}}
	readOnly, capable := root, root
	readOnly.readOnlyMount, capable.capabilities = true, true
	return map[string]volume{"uid 0, no capability": root, "uid 0, readOnly mount": readOnly, "uid 0, default capabilities": capable}
}

// attacked are the objects of their volumes.
const attacked = "[{secret: password}, {secret: password, path: app/password}]"

// wantReadOnly makes the container try every change of the volume.
func (p *pod) wantReadOnly(t *testing.T, dirs ...string) {
	t.Helper()
	for _, dir := range append(dirs, mountPath) {
		var allowed []string
		if err := p.ask(t.Context(), "/attack?dir="+url.QueryEscape(dir), &allowed); err != nil {
			t.Fatal(err)
		}
		if len(allowed) > 0 {
			t.Errorf("in %s of %s this did not fail with EROFS: %q", dir, p.name, allowed)
		}
	}
}

// wantNoRemount makes the container try to remount its volume writable, also in a new user namespace.
func (p *pod) wantNoRemount(t *testing.T) {
	t.Helper()
	var tried struct {
		Allowed, AsOwner []string
		NoNamespace      string
	}
	if err := p.ask(t.Context(), "/remount?dir="+url.QueryEscape(mountPath), &tried); err != nil {
		t.Fatal(err)
	}
	if len(tried.Allowed)+len(tried.AsOwner) > 0 {
		t.Errorf("in %s this did not fail with EPERM: %q; and in a new namespace: %q", p.name, tried.Allowed, tried.AsOwner)
	}
	if tried.NoNamespace != "" {
		t.Logf("%s cannot make a user namespace: %s", p.name, tried.NoNamespace)
	}
}

// testRootCannotWrite: no container can write into a volume, whatever the mount flags of the runtime.
func testRootCannotWrite(t *testing.T, e *env) {
	v := e.newVault(t)
	v.set(t, "password", "at first")
	v.baseline(t)
	for name, who := range attackers(v.objects(attacked)) {
		p := e.run(t, "root", who)
		t.Logf("%s: %+v", name, p.inside(t))
		checkMounts(t, p)
		p.wantReadOnly(t, "/mnt/app")
		p.wantNoRemount(t)
		p.wantReadOnly(t, "/mnt/app")
		p.mustHold(t, mountPath+"/password", "at first")
	}
}

// awaitRotation waits for a new password, and for the end of its rotation, when the file system is read-only again.
func (p *pod) awaitRotation(t *testing.T, value string) {
	t.Helper()
	p.age(t, time.Minute)
	p.awaitContent(t, mountPath+"/password", value)
	eventually(t, "a read-only file system", func(ctx context.Context) error {
		mounts, err := p.mounts(ctx)
		if err == nil && (len(mounts) != 1 || !strings.HasPrefix(mounts[0].VFSOptions, "ro,")) {
			err = fmt.Errorf("the mounts are %+v", mounts)
		}
		return err
	})
}

// inside is the volume's entry in the mount table of the container.
func (p *pod) inside(t *testing.T) (mounts []mountinfo.Info) {
	t.Helper()
	if err := p.ask(t.Context(), "/mounts?dir="+url.QueryEscape(mountPath), &mounts); err != nil {
		t.Fatal(err)
	}
	return mounts
}

// testReadWriteRequests: if the operator allows pods without readOnly, newer runtimes give them a writable mount of a read-only file system.
func testReadWriteRequests(t *testing.T, e *env) {
	install := func(allow string) {
		run(t, "helm", append([]string{"upgrade", release, chart, "--set", "allowReadWriteRequests=" + allow, "--wait", "--timeout=3m"}, e.helmValues...)...)
		e.awaitDriver(t)
	}
	install("true")
	defer install("false")
	v := e.newVault(t)
	v.set(t, "password", "at first")
	v.baseline(t)
	for name, who := range attackers(v.objects(attacked)) {
		who.writable = true
		p := e.run(t, "writable", who)
		t.Logf("%s: %+v", name, p.inside(t))
		p.wantReadOnly(t, "/mnt/app")
		v.set(t, "password", "rotated")
		p.awaitRotation(t, "rotated")
		p.wantReadOnly(t, "/mnt/app")
		v.set(t, "password", "at first")
		p.delete(t)
	}
}
