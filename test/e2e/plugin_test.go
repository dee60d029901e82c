package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// kubectlKvcsi runs kubectl kvcsi as a user, with the program where krew would link it.
func kubectlKvcsi(t *testing.T, user string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	program, err := filepath.Abs("../../bin/kvcsi")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if err := os.Symlink(program, filepath.Join(folder, "kubectl-kvcsi")); err != nil {
		t.Fatal(err)
	}
	args = append(append([]string{"kvcsi"}, args...), "--namespace", namespace)
	if user != "" {
		args = append(args, "--as", user)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out, said bytes.Buffer
	command := exec.CommandContext(ctx, "kubectl", args...)
	command.Env = append(os.Environ(), "PATH="+folder+":"+os.Getenv("PATH"))
	command.Stdout, command.Stderr = &out, &said
	err = command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return command.ProcessState.ExitCode(), out.String(), said.String()
}

// testPlugin: kubectl kvcsi shows a fresh volume with its certificate, a mount that fails, and what a user may not see.
func testPlugin(t *testing.T, e *env) {
	v := e.newVault(t)
	v.set(t, "password", "planted-and-never-shown")
	v.admin(t, "/certificates", object{"vault": v.name, "name": "web-tls"})
	fresh := e.run(t, "plugin-fresh", volume{attributes: v.objects("- secret: password\n- certificate: web-tls\n")})
	missing := e.start(t, "plugin-missing", volume{attributes: v.objects("- secret: nobody")})
	const reason = "there is no such object; check the name, or recover it if it was deleted"
	missing.awaitEvent(t, "code = NotFound")

	check := func(user string, command []string, code int, parts ...string) {
		t.Helper()
		got, stdout, stderr := kubectlKvcsi(t, user, command...)
		if strings.Contains(stdout+stderr, "planted") {
			t.Errorf("%q shows a value", command)
		}
		for _, part := range parts {
			if !strings.Contains(stdout+stderr, part) {
				t.Errorf("%q as %q lacks %q", command, user, part)
			}
		}
		if got != code || t.Failed() {
			t.Errorf("%q as %q: exit %d, want %d\n%s%s", command, user, got, code, stdout, stderr)
		}
	}
	status := []string{"status", fresh.name, missing.name}
	eventually(t, "the status of the pods", func(context.Context) error {
		code, stdout, stderr := kubectlKvcsi(t, "", status...)
		if code != 1 || stderr != "" || !strings.Contains(stdout, reason) || !strings.Contains(stdout, "web-tls.crt ends in ") {
			return fmt.Errorf("exit %d\n%s%s", code, stdout, stderr)
		}
		t.Logf("kubectl kvcsi status\n%s", stdout)
		return nil
	})
	check("", []string{"status", fresh.name}, 0, "fresh")
	check("", []string{"status", "-o", "json", missing.name}, 1, `"state": "failed"`, `"missing": []`)
	check("", []string{"explain", fresh.name}, 0, "identity  workload, client "+v.clientID,
		"GET  "+v.url()+"/secrets/web-tls", "policy    of the ConfigMap keyvault-csi/keyvault-csi-policy", ": allowed: rules[3] {identities: [workload, servicePrincipal], namespaces: ['*']}")
	check("", []string{"explain", missing.name}, 0, "last failed mount, ", reason)
	check("", []string{"explain", fresh.name + "x"}, 1, "there is no pod "+fresh.name+"x in the namespace "+namespace+"; there are "+fresh.name)
	check("", []string{"explain", "--help"}, 0, "Usage: kubectl kvcsi explain POD [-n NAMESPACE]")

	e.testPluginRights(t, check, status, fresh.name, reason)
}

// testPluginRights: a user without rights is told which one is missing; with those of docs/kubectl/rights.yaml all is shown.
func (e *env) testPluginRights(t *testing.T, check func(user string, command []string, code int, parts ...string), status []string, pod, reason string) {
	t.Helper()
	const user = "jane@example.com"
	check(user, status, 1, "forbidden: ", `cannot get resource "pods"`)
	manifest, err := os.ReadFile("../../docs/kubectl/rights.yaml")
	if err != nil {
		t.Fatal(err)
	}
	rights := strings.ReplaceAll(string(manifest), "namespace: shop", "namespace: "+namespace)
	t.Cleanup(func() {
		if _, err := try(context.Background(), rights, "kubectl", "delete", "--ignore-not-found", "-f", "-"); err != nil {
			t.Error(err)
		}
	})
	apply(t, rights)
	check(user, status, 1, "fresh", "web-tls.crt ends in ", reason)
	check(user, []string{"explain", pod}, 0, "allowed")

	// Each Role alone.
	run(t, "kubectl", "delete", "rolebinding", "keyvault-csi-status", "--namespace", driverNamespace)
	check(user, status, 1, "unknown", reason, "no age, no refresh errors and no certificates are shown: forbidden: ", `in the namespace "keyvault-csi"`)
	check(user, []string{"explain", pod}, 0, "policy    not known")
	apply(t, rights)
	run(t, "kubectl", "patch", "role", "keyvault-csi-status", "--namespace", namespace, "--type=json", `--patch=[{"op":"remove","path":"/rules/1"}]`)
	check(user, status, 0, "fresh", "unknown", "no errors of mounts are shown: forbidden: ", `cannot list resource "events"`)
	run(t, "kubectl", "patch", "role", "keyvault-csi-status", "--namespace", driverNamespace, "--type=json", `--patch=[{"op":"remove","path":"/rules/1"}]`)
	check(user, status, 0, "unknown", "ports of the driver's pods cannot be forwarded (create and get on pods/portforward): forbidden: ")
}
