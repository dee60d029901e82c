package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"testing"
	"time"
)

// steady is a pod that must keep its files while driver and kubelet restart.
type steady struct {
	*pod
	vault vault
	same  func()
	value string
}

func (e *env) steady(t *testing.T) *steady {
	t.Helper()
	v := e.newVault(t)
	v.set(t, "password", "at first")
	p := e.run(t, "steady", volume{attributes: v.objects("- secret: password")})
	return &steady{pod: p, vault: v, same: p.sameProcess(t), value: "at first"}
}

// check checks that the files exist, and that the next rotation works.
func (s *steady) check(t *testing.T, after string) {
	t.Helper()
	s.mustHold(t, mountPath+"/password", s.value)
	s.value = "after " + after
	s.vault.set(t, "password", s.value)
	s.age(t, time.Minute)
	s.awaitContent(t, mountPath+"/password", s.value)
	if mounts, err := s.mounts(t.Context()); err != nil || len(mounts) != 1 {
		t.Errorf("after %s the volume has the mounts %+v (%v), want one", after, mounts, err)
	}
	s.same()
}

// testDriverKilled kills the driver's process with SIGKILL, then deletes its pod.
func testDriverKilled(t *testing.T, e *env) {
	s := e.steady(t)
	killed := e.kill(t, "keyvault-csi-driver")
	s.mustHold(t, mountPath+"/password", s.value)
	e.awaitAnother(t, "keyvault-csi-driver", killed)
	s.check(t, "the driver was killed")

	run(t, "kubectl", "delete", "pod", "--namespace", driverNamespace, "--selector=app.kubernetes.io/name=keyvault-csi", "--wait=true")
	s.mustHold(t, mountPath+"/password", s.value)
	e.awaitDriver(t)
	s.check(t, "the driver's pod was deleted")

	// A new pod gets its volume, and a deleted pod is cleaned up.
	p := e.run(t, "new", volume{attributes: s.vault.objects("- secret: password")})
	checkUnmounted(t, p)
}

func testUpgradeAndRollback(t *testing.T, e *env) {
	s := e.steady(t)
	before := e.driverPods(t)
	run(t, "helm", append([]string{"upgrade", release, chart, "--set", "logVerbosity=2", "--wait", "--timeout=3m"}, e.helmValues...)...)
	e.awaitDriver(t)
	upgraded := e.driverPods(t)
	if slices.Equal(before, upgraded) {
		t.Error("the upgrade replaced no pod of the driver")
	}
	s.check(t, "an upgrade")

	run(t, "helm", "rollback", release, "--namespace", driverNamespace, "--wait", "--timeout=3m")
	e.awaitDriver(t)
	if slices.Equal(upgraded, e.driverPods(t)) {
		t.Error("the rollback replaced no pod of the driver")
	}
	s.check(t, "a rollback")
	checkUnmounted(t, s.pod)
}

// testKubeletRestarted: a restarted kubelet publishes again, which must not make a second mount.
func testKubeletRestarted(t *testing.T, e *env) {
	s := e.steady(t)
	for _, time := range []string{"first", "second"} {
		killed := e.kill(t, "kubelet")
		e.awaitAnother(t, "kubelet", killed)
		s.check(t, "the kubelet's "+time+" restart")
		e.awaitDriver(t)
	}
	checkUnmounted(t, s.pod)
}

// driverPods returns the UIDs of the driver's pods.
func (e *env) driverPods(t *testing.T) []string {
	t.Helper()
	var pods struct{ Items []podStatus }
	err := e.get(t.Context(), "/api/v1/namespaces/"+driverNamespace+"/pods?labelSelector=app.kubernetes.io/name=keyvault-csi", &pods)
	if err != nil {
		t.Fatal(err)
	}
	var uids []string
	for _, p := range pods.Items {
		uids = append(uids, p.Metadata.UID)
	}
	slices.Sort(uids)
	return uids
}

// kill kills the node's processes with that name and returns their PIDs.
func (e *env) kill(t *testing.T, name string) []int {
	t.Helper()
	var killed []int
	if err := e.onNode(t.Context(), http.MethodPost, "/kill", url.Values{"name": {name}}, &killed); err != nil {
		t.Fatal(err)
	}
	return killed
}

// awaitAnother waits for a new process with that name.
func (e *env) awaitAnother(t *testing.T, name string, killed []int) {
	t.Helper()
	eventually(t, "another "+name, func(ctx context.Context) error {
		var now []int
		if err := e.onNode(ctx, http.MethodGet, "/process", url.Values{"name": {name}}, &now); err != nil {
			return err
		}
		if slices.ContainsFunc(now, func(pid int) bool { return !slices.Contains(killed, pid) }) {
			return nil
		}
		return fmt.Errorf("there are the processes %v, of which %v were killed", now, killed)
	})
}

// testUninstall is the last test, because without the driver volumes cannot be unmounted.
func testUninstall(t *testing.T, e *env) {
	eventually(t, "the end of the pods", func(ctx context.Context) error {
		for _, name := range []string{namespace, otherNamespace, agentNamespace} {
			var pods struct{ Items []podStatus }
			if err := e.get(ctx, "/api/v1/namespaces/"+name+"/pods", &pods); err != nil {
				return err
			}
			if len(pods.Items) > 0 {
				return fmt.Errorf("%d pods of %s are left", len(pods.Items), name)
			}
		}
		return nil
	})
	run(t, "helm", "uninstall", release, "--namespace", driverNamespace, "--wait", "--timeout=3m")
	eventually(t, "removal", func(ctx context.Context) error {
		if err := e.get(ctx, "/apis/storage.k8s.io/v1/csidrivers/keyvault-csi.io", nil); !isNotFound(err) {
			return cmp.Or(err, errors.New("the CSIDriver object is still there"))
		}
		if pods := e.driverPods(t); len(pods) != 0 {
			return fmt.Errorf("pods of the driver are still there: %v", pods)
		}
		drivers, err := e.registered(ctx)
		if err != nil {
			return err
		}
		if drivers["keyvault-csi.io"] {
			return fmt.Errorf("the kubelet still knows the driver: %v", drivers)
		}
		for _, dir := range []string{"plugins/keyvault-csi.io", "plugins_registry"} {
			var names []string
			if err := e.onNode(ctx, http.MethodGet, "/list", url.Values{"dir": {path.Join(e.kubeletRoot, dir)}}, &names); err != nil {
				return err
			}
			if slices.Contains(names, "csi.sock") || slices.Contains(names, "keyvault-csi.io-reg.sock") {
				return fmt.Errorf("the node has in %s still %q", dir, names)
			}
		}
		return nil
	})
	// Nothing of the release is left in the cluster, but for the label that the kubelet has made.
	if got := e.label(t); got != "true" {
		t.Errorf("the node has %s=%q: docs/install.md says that the label stays", readyLabel, got)
	}
	run(t, "kubectl", "label", "nodes", "--all", readyLabel+"-")
	for _, kind := range []string{"all,serviceaccount,configmap,role,rolebinding", "clusterrole,clusterrolebinding,csidriver,validatingadmissionpolicy"} {
		out := run(t, "kubectl", "get", kind, "--all-namespaces", "--selector=app.kubernetes.io/instance="+release, "--output=name")
		if out != "" && out != "No resources found\n" {
			t.Errorf("after helm uninstall there are\n%s", out)
		}
	}
}
