package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

// troubled checks that the pod is in ContainerCreating, and that its event is exactly this line.
func (p *pod) troubled(t *testing.T, code, text string) {
	t.Helper()
	want := `MountVolume.SetUp failed for volume "secrets" : rpc error: code = ` + code + ` desc = ` + text
	if got := p.awaitEvent(t, "code = "+code); got != want {
		t.Errorf("the event says\n%s\nwant\n%s", got, want)
	}
	// The kubelet reports the containers with a delay.
	eventually(t, "ContainerCreating", func(ctx context.Context) error {
		status, err := p.status(ctx)
		containers := status.Status.ContainerStatuses
		if err == nil && (len(containers) != 1 || containers[0].State.Waiting.Reason != "ContainerCreating") {
			err = fmt.Errorf("the containers are %+v", containers)
		}
		return err
	})
	if mounts, err := p.mounts(t.Context()); err != nil || len(mounts) != 0 {
		t.Errorf("a volume that failed is mounted: %+v, %v", mounts, err)
	}
}

// asked is the beginning of every error about an object.
func (v vault) asked(source, secret string) string {
	return fmt.Sprintf("%s: secret %q of %s as workload %s: ", source, secret, v.url(), v.clientID)
}

// testWrongVault: a host that does not exist, which the dev cloud's proxy answers with 502.
func testWrongVault(t *testing.T, e *env) {
	v := vault{env: e, name: "later" + newGUID()[:8], clientID: newGUID()}
	p := e.start(t, "wrong-vault", volume{attributes: v.objects("- secret: password")})
	p.troubled(t, "Unavailable", v.asked("objects[0]", "password")+
		"no answer from "+v.name+".vault.azure.net: the proxy answered CONNECT with HTTP 502; check the name, and what the proxy allows")
	v.create(t)
	v.identity(t, "web")
	v.set(t, "password", "there now")
	p.awaitRunning(t)
	p.mustHold(t, mountPath+"/password", "there now")
}

func testMissingSecret(t *testing.T, e *env) {
	v := e.newVault(t)
	v.set(t, "there", "x")
	p := e.start(t, "missing", volume{attributes: v.objects("[{secret: there}, {secret: password}]")})
	p.troubled(t, "NotFound", v.asked("objects[1]", "password")+
		"HTTP 404 SecretNotFound: there is no such object; check the name, or recover it if it was deleted")
	v.set(t, "password", "there now")
	p.awaitRunning(t)
	p.mustHold(t, mountPath+"/password", "there now")
}

func testForbidden(t *testing.T, e *env) {
	v := e.newVault(t)
	v.set(t, "password", "allowed now")
	v.admin(t, "/deny", object{"vault": v.name, "clientID": v.clientID})
	p := e.start(t, "forbidden", volume{attributes: v.objects("- secret: password")})
	p.troubled(t, "PermissionDenied", v.asked("objects[0]", "password")+
		"HTTP 403 Forbidden, ForbiddenByPolicy: the identity may not do secrets/get; "+
		`add it to the vault's access policy, or assign the role "Key Vault Secrets User"`)
	v.admin(t, "/grant", object{"vault": v.name, "clientID": v.clientID})
	p.awaitRunning(t)
	p.mustHold(t, mountPath+"/password", "allowed now")
}

// testUnknownAttribute: attributes of a pod are immutable, so a new pod, as of a Deployment, has the correction.
func testUnknownAttribute(t *testing.T, e *env) {
	v := e.newVault(t)
	v.set(t, "password", "x")
	attributes := v.objects("- secret: password")
	attributes["clientId"] = attributes["clientID"]
	delete(attributes, "clientID")
	p := e.start(t, "attribute", volume{attributes: attributes})
	p.troubled(t, "InvalidArgument", "clientId: unknown attribute, did you mean clientID?; identity: the pod names none: "+
		"set clientID (workload identity), or name a Secret with clientid and clientsecret or clientcertificate in "+
		"nodePublishSecretRef (servicePrincipal), or set identity to managed or to cluster")
	if asked := v.requests(t, 0); asked != 0 {
		t.Errorf("the vault was asked %d times for a volume that cannot be", asked)
	}
	checkUnmounted(t, p)
	e.run(t, "attribute", volume{attributes: v.objects("- secret: password")})
}

// testManyPods: many pods start and end at once, and nothing is left on the node.
func testManyPods(t *testing.T, e *env) {
	const count = 30
	v := e.newVault(t)
	v.set(t, "password", "for all")
	pods := make([]*pod, count)
	for i := range pods {
		pods[i] = e.start(t, fmt.Sprintf("many-%d", i), volume{attributes: v.objects("- secret: password")})
	}
	for _, p := range pods {
		p.awaitRunning(t)
		p.mustHold(t, mountPath+"/password", "for all")
		if mounts, err := p.mounts(t.Context()); err != nil || len(mounts) != 1 {
			t.Errorf("%s has the mounts %+v (%v), want one", p.name, mounts, err)
		}
	}
	for _, p := range pods {
		if err := p.call(t.Context(), "DELETE", p.path(""), nil, nil); err != nil {
			t.Error(err)
		}
	}
	for _, p := range pods {
		eventually(t, "clean node", func(ctx context.Context) error {
			return errors.Join(p.gone(ctx), p.leftOf(ctx))
		})
	}
}
