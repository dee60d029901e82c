package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func testServicePrincipal(t *testing.T, e *env) {
	v := e.newVault(t)
	v.set(t, "password", "for the principal")
	principal := newGUID()
	v.admin(t, "/identities", object{"tenant": tenant, "clientID": principal, "secrets": []object{{"value": "s3cret"}}})
	v.admin(t, "/grant", object{"vault": v.name, "clientID": principal})
	name := "sp-" + v.name
	apply(t, fmt.Sprintf(`{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": %q, "namespace": %q},
		"stringData": {"clientid": %q, "clientsecret": "s3cret"}}`, name, namespace, principal))
	attributes := v.objects("- secret: password")
	delete(attributes, "clientID")
	p := e.run(t, "principal", volume{serviceAccount: "stranger", secretRef: name, attributes: attributes})
	p.mustHold(t, mountPath+"/password", "for the principal")
}

// testNotFederated: a pod cannot use another pod's client id, because Entra ID compares the subject of the token. `kubectl describe` has the
// reason.
func testNotFederated(t *testing.T, e *env) {
	v := e.newVault(t)
	v.set(t, "password", "not for strangers")
	p := e.start(t, "stranger", volume{serviceAccount: "stranger", attributes: v.objects("- secret: password")})
	p.awaitEvent(t, "code = Unauthenticated")
	description := run(t, "kubectl", "describe", "pod", "--namespace", namespace, p.name)
	subject := "system:serviceaccount:" + namespace + ":stranger"
	for line := range strings.Lines(description) {
		if strings.Contains(line, "code = Unauthenticated desc = ") && strings.Contains(line, v.clientID) && strings.Contains(line, subject) {
			v.identity(t, "stranger") // repaired: the federated credential is now for this account
			p.awaitRunning(t)
			return
		}
	}
	t.Errorf("no line of the description names Unauthenticated, the client id and %s:\n%s", subject, description)
}

// testOtherNamespace: service accounts of two namespaces have the name web, and only one may read.
func testOtherNamespace(t *testing.T, e *env) {
	v := e.newVault(t)
	v.set(t, "password", "for one web")
	attributes := v.objects("- secret: password")
	stranger := e.start(t, "namesake", volume{namespace: otherNamespace, attributes: attributes})
	p := e.run(t, "named", volume{attributes: attributes})
	p.mustHold(t, mountPath+"/password", "for one web")
	message := stranger.awaitEvent(t, "code = Unauthenticated")
	if subject := "system:serviceaccount:" + otherNamespace + ":web"; !strings.Contains(message, subject) {
		t.Errorf("the event does not name the subject %s: %s", subject, message)
	}
	if mounts, err := stranger.mounts(t.Context()); err != nil || len(mounts) != 0 {
		t.Errorf("the other pod has the mounts %+v, %v", mounts, err)
	}
}

// testOtherTrust: identities that trust another cluster or another audience do not accept the tokens.
func testOtherTrust(t *testing.T, e *env) {
	subject := "system:serviceaccount:" + namespace + ":web"
	for name, trusted := range map[string]object{
		"issuer":   {"issuer": "https://elsewhere.example", "subject": subject},
		"audience": {"issuer": e.issuer, "subject": subject, "audience": "api://somebody-else"},
	} {
		v := e.newVault(t)
		v.set(t, "password", "x")
		v.admin(t, "/identities", object{"tenant": tenant, "clientID": v.clientID, "federated": []object{trusted}})
		p := e.start(t, name, volume{attributes: v.objects("- secret: password")})
		p.awaitEvent(t, "code = Unauthenticated")
	}
}

// testTokensInVolumeContext tests tokens in the volume context, as in clusters before 1.35. The chart chooses by the API server's version, so
// the test changes the object.
func testTokensInVolumeContext(t *testing.T, e *env) {
	const path = "/apis/storage.k8s.io/v1/csidrivers/keyvault-csi.io"
	var driver struct {
		Spec struct{ ServiceAccountTokenInSecrets *bool }
	}
	if err := e.get(t.Context(), path, &driver); err != nil {
		t.Fatal(err)
	}
	if in := driver.Spec.ServiceAccountTokenInSecrets; in == nil || !*in {
		t.Skip("this API server passes tokens only in the volume context, so the other tests have covered it")
	}
	set := func(inSecrets any) error {
		patch := object{"spec": object{"serviceAccountTokenInSecrets": inSecrets}}
		return e.call(context.Background(), http.MethodPatch, path, patch, nil)
	}
	if err := set(nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := set(true); err != nil {
			t.Error(err)
		}
	})
	v := e.newVault(t)
	v.set(t, "password", "by volume context")
	p := e.run(t, "context", volume{attributes: v.objects("- secret: password")})
	p.mustHold(t, mountPath+"/password", "by volume context")
}

// testNoRights: the driver's service account has only the permissions of anonymous callers, and its pod has no token.
func testNoRights(t *testing.T, e *env) {
	var pods struct {
		Items []struct {
			Spec struct {
				ServiceAccountName           string
				AutomountServiceAccountToken *bool
				Volumes                      []map[string]any
			}
		}
	}
	err := e.get(t.Context(), "/api/v1/namespaces/"+driverNamespace+"/pods?labelSelector=app.kubernetes.io/name=keyvault-csi", &pods)
	if err != nil || len(pods.Items) == 0 {
		t.Fatal("no pod of the driver", err)
	}
	spec := pods.Items[0].Spec
	if spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken {
		t.Error("the driver's pod mounts a token")
	}
	for _, volume := range spec.Volumes {
		if volume["projected"] != nil || volume["secret"] != nil {
			t.Errorf("the driver's pod has the volume %v", volume)
		}
	}
	account := "system:serviceaccount:" + driverNamespace + ":" + spec.ServiceAccountName
	may := func(account string, groups []string, verb, group, resource string) bool {
		review := object{"spec": object{
			"user": account, "groups": groups,
			"resourceAttributes": object{"verb": verb, "group": group, "resource": resource},
		}}
		var answer struct{ Status struct{ Allowed bool } }
		if err := e.call(t.Context(), http.MethodPost, "/apis/authorization.k8s.io/v1/subjectaccessreviews", review, &answer); err != nil {
			t.Fatal(err)
		}
		return answer.Status.Allowed
	}
	groups := []string{"system:serviceaccounts", "system:serviceaccounts:" + driverNamespace, "system:authenticated"}
	for _, resource := range []string{"*", "pods", "secrets", "serviceaccounts", "nodes", "configmaps", "events"} {
		for _, verb := range []string{"list", "get", "watch", "create", "update", "delete"} {
			if may(account, groups, verb, "", resource) || may(account, groups, verb, "storage.k8s.io", "csidrivers") {
				t.Errorf("%s may %s %s", account, verb, resource)
			}
		}
	}
	if !may("somebody", []string{"system:masters"}, "list", "", "pods") {
		t.Error("system:masters may not list pods, so the checks above prove nothing")
	}
}
