package e2e

import (
	"net/url"
	"os"
	"slices"
	"testing"
	"time"
)

// testReadOnlyIsRequired: the pod's event says what to write.
func testReadOnlyIsRequired(t *testing.T, e *env) {
	v := e.newVault(t)
	v.set(t, "password", "x")
	p := e.start(t, "writable", volume{writable: true, attributes: v.objects("- secret: password")})
	p.awaitEvent(t, "code = InvalidArgument desc = the volume is not read-only, and nothing may write to it; set readOnly: true under csi")
}

// baseline makes the service account web of the namespace that admits uid 0, and has the identity of the vault trust it.
func (v vault) baseline(t *testing.T) {
	t.Helper()
	apply(t, `{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": "`+agentNamespace+`", "name": "web"}}`)
	v.admin(t, "/identities", object{"tenant": tenant, "clientID": v.clientID, "federated": []object{{
		"issuer": v.issuer, "subject": "system:serviceaccount:" + agentNamespace + ":web",
	}}})
}

// attackers are the roots of containers: with no capability, and with those that a runtime gives to whoever asks for nothing.
func attackers(attributes map[string]string) map[string]volume {
	return map[string]volume{
		"uid 0, no capability":        {namespace: agentNamespace, root: true, attributes: attributes},
		"uid 0, default capabilities": {namespace: agentNamespace, root: true, capabilities: true, attributes: attributes},
	}
}

// wantReadOnly has the container try every way to change the volume.
func (p *pod) wantReadOnly(t *testing.T) {
	t.Helper()
	var allowed []string
	if err := p.ask(t.Context(), "/attack?dir="+url.QueryEscape(mountPath), &allowed); err != nil {
		t.Fatal(err)
	}
	if len(allowed) > 0 {
		t.Errorf("in %s this did not fail with EROFS: %q", p.name, allowed)
	}
}

// testRootCannotWrite: nobody writes into a volume, whatever the runtime has made of its mount.
func testRootCannotWrite(t *testing.T, e *env) {
	v := e.newVault(t)
	v.set(t, "password", "at first")
	v.baseline(t)
	for name, who := range attackers(v.objects("- secret: password")) {
		p := e.run(t, "root", who)
		t.Logf("%s: %s", name, p.inside(t))
		checkMounts(t, p)
		p.wantReadOnly(t)
		p.mustHold(t, mountPath+"/password", "at first")
	}
}

// inside is the volume's line of the mount table in the container.
func (p *pod) inside(t *testing.T) (lines []string) {
	t.Helper()
	if err := p.ask(t.Context(), "/mounts?dir="+url.QueryEscape(mountPath), &lines); err != nil {
		t.Fatal(err)
	}
	return lines
}

// testReadWriteRequests: where the operator lets pods leave readOnly out, newer runtimes give them a writable mount of a read-only file
// system.
func testReadWriteRequests(t *testing.T, e *env) {
	install := func(allow string) {
		run(t, "helm", append([]string{"upgrade", release, chart, "--set", "allowReadWriteRequests=" + allow, "--wait", "--timeout=3m"}, e.helmValues...)...)
		run(t, "kubectl", "rollout", "status", "--namespace", driverNamespace, "daemonset/"+release, "--timeout=3m")
		e.awaitDriver(t)
	}
	install("true")
	defer install("false")
	v := e.newVault(t)
	v.set(t, "password", "at first")
	v.baseline(t)
	for name, who := range attackers(v.objects("- secret: password")) {
		who.writable = true
		p := e.run(t, "writable", who)
		t.Logf("%s: %s", name, p.inside(t))
		p.wantReadOnly(t)
		v.set(t, "password", "rotated")
		p.age(t, time.Minute)
		p.awaitContent(t, mountPath+"/password", "rotated")
		p.wantReadOnly(t)
		v.set(t, "password", "at first")
		p.delete(t)
	}
}

// needsNewRuntime skips where the runtime is one that the cluster's scripts have taken from an old distribution.
func needsNewRuntime(t *testing.T, what string) {
	t.Helper()
	if slices.Contains([]string{"old", "crun"}, os.Getenv("E2E_RUNTIME")) {
		t.Skip("needs a container runtime with " + what + ", which containerd 1.6 has not")
	}
}

// testUserNamespace: the runtime maps the ids of the volume's mount, so that container root reads what root owns, and the group maps.
func testUserNamespace(t *testing.T, e *env) {
	needsNewRuntime(t, "idmapped mounts")
	v := e.newVault(t)
	v.set(t, "password", "at first")
	p := e.run(t, "userns", volume{userNamespace: true, fsGroup: 4242, attributes: v.objects(`[{secret: password}, {secret: password, path: strict, mode: "0440"}]`)})
	files, err := p.files(t.Context(), mountPath)
	if err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]string{"password": "-rw-r-----", "strict": "-r--r-----"} {
		if got := files[name]; string(got.Data) != "at first" || got.Mode != mode || got.UID != 0 || got.GID != 4242 {
			t.Errorf("%s is %s of %d:%d and holds %q, want %s of 0:4242", name, got.Mode, got.UID, got.GID, got.Data, mode)
		}
	}
	p.wantReadOnly(t)
	v.set(t, "password", "rotated")
	p.age(t, time.Minute)
	p.awaitContent(t, mountPath+"/password", "rotated")
}

// testRecursiveReadOnly: a pod that asks for a mount whose submounts are read-only too gets one.
func testRecursiveReadOnly(t *testing.T, e *env) {
	needsNewRuntime(t, "recursive read-only mounts")
	v := e.newVault(t)
	v.set(t, "password", "at first")
	p := e.run(t, "recursive", volume{recursive: true, attributes: v.objects("- secret: password")})
	checkMounts(t, p)
	p.mustHold(t, mountPath+"/password", "at first")
	p.wantReadOnly(t)
}
