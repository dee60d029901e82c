package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What explain prints of a pod, with the rule and the requests, and with what it may not read.
func TestExplain(t *testing.T) {
	t.Parallel()
	const head = `Pod shop/fresh-6c9f7b-x2x4z, volume secrets
  identity  workload, client 11111111-2222-3333-4444-555555555555
  0755  secrets/
  0755  certs/
  0755  keys/
  0755  certs_keys/
  0644  secrets/db-password  value of shop.vault.azure.net secret db-password
  0644  keys/db-password     key of shop.vault.azure.net secret db-password, if it backs a certificate
  0644  certs/db-password    chain of shop.vault.azure.net secret db-password, if it backs a certificate
  requests  1 request, if nothing of it is in the driver's memory
    GET  https://shop.vault.azure.net/secrets/db-password  for secrets[0]
`
	const mount = "  last failed mount, 2026-11-29 11:00:00 UTC\n    of the time before the first mount\n"
	volume := func(f *fakeCluster, attributes object) {
		f.pods[2] = appPod("shop", "fresh-6c9f7b-x2x4z", "n1", "Running", csiVolume("secrets", "keyvault-csi.io", attributes))
	}
	for name, tc := range map[string]struct {
		change func(*fakeCluster)
		want   string // the output, or how it ends
		said   string
		code   int
	}{
		"allowed": {
			nil, head + "  policy    of the ConfigMap keyvault-csi/rules\n" +
				"    https://shop.vault.azure.net: allowed: rules[0] {namespaces: [shop], identities: [workload]}\n" + mount, "", 0,
		},
		"denied": {
			func(f *fakeCluster) {
				f.configMaps["keyvault-csi/rules/policy.yaml"] = "rules:\n- effect: deny\n  namespaces: [shop]\n  identities: [workload]\n"
			},
			head + "  policy    of the ConfigMap keyvault-csi/rules\n" +
				"    https://shop.vault.azure.net: refused: rules[0] {effect: deny, namespaces: [shop], identities: [workload]}\n" +
				"    the driver's policy does not let service account shop/web use identity workload 11111111-2222-3333-4444-555555555555 at " +
				"https://shop.vault.azure.net: rules[0] denies it; the operator must change that rule, or put before it one such as " +
				`{namespaces: ["shop"], serviceAccounts: ["web"], identities: [workload], clientIDs: ["11111111-2222-3333-4444-555555555555"], vaults: ["https://shop.vault.azure.net"]}` + "\n" + mount, "", 1,
		},
		"a rule with comments and block style": {
			func(f *fakeCluster) {
				f.configMaps["keyvault-csi/rules/policy.yaml"] = "rules:\n# before\n- # of the rule\n  namespaces: # of the key\n  # above\n  - shop # of the shop\n  # below\n" +
					"  identities: [workload] # of Entra ID\n  serviceAccounts: ['*', \"web\"]\n"
			},
			head + "  policy    of the ConfigMap keyvault-csi/rules\n" +
				"    https://shop.vault.azure.net: allowed: rules[0] {namespaces: [shop], identities: [workload], serviceAccounts: ['*', \"web\"]}\n" + mount, "", 0,
		},
		"no policy file": {
			func(f *fakeCluster) { f.pods[0] = driverPod("driver-1", "n1") },
			head + "  policy    of the driver, which has no policy file\n    https://shop.vault.azure.net: allowed: rules[0]\n" + mount, "", 0,
		},
		"no right to read the policy": {
			func(f *fakeCluster) { f.denied = func(_, what, _ string) bool { return what == "configmaps" } },
			head + "  policy    not known\n" + mount,
			"kubectl kvcsi explain: the policy is not known: get on the ConfigMap keyvault-csi/rules is missing: forbidden: ", 0,
		},
		"no driver": {
			func(f *fakeCluster) {
				f.pods = append([]object{driverPod("x", "n1", "--driver-name=other.example.com")}, f.pods[2:]...)
			},
			head + "  policy    not known\n" + mount,
			"kubectl kvcsi explain: the policy and the flags of the driver are not known, so the defaults are shown: there is no privileged pod of the driver", 0,
		},
		"no events": {
			func(f *fakeCluster) { f.denied = func(_, what, _ string) bool { return what == "events" } },
			"allowed: rules[0] {namespaces: [shop], identities: [workload]}\n", "kubectl kvcsi explain: no failed mounts are shown: forbidden: ", 0,
		},
		"the flags of the driver": {
			func(f *fakeCluster) { f.pods[0] = driverPod("driver-1", "n1", "--cloud=AzureChinaCloud") },
			"https://shop.vault.azure.cn: allowed: rules[0]\n" + mount, "", 0,
		},
		"the flags of the driver of its node": {
			func(f *fakeCluster) {
				f.pods[0], f.pods[1] = driverPod("driver-2", "n2", "--cloud=AzureChinaCloud"), driverPod("driver-1", "n1", "--cloud=AzureUSGovernmentCloud")
			},
			"https://shop.vault.usgovcloudapi.net: allowed: rules[0]\n" + mount, "", 0,
		},
		"without readOnly, of a driver that allows it": {
			func(f *fakeCluster) {
				f.pods[0] = driverPod("driver-1", "n1", "--allow-read-write-requests")
				delete(f.pods[2]["spec"].(object)["volumes"].([]object)[0]["csi"].(object), "readOnly")
			},
			head + "  policy    of the driver, which has no policy file\n    https://shop.vault.azure.net: allowed: rules[0]\n" + mount, "", 0,
		},
		"without readOnly": {
			func(f *fakeCluster) {
				f.pods[0] = driverPod("driver-1", "n1", "--allow-read-write-requests=false")
				delete(f.pods[2]["spec"].(object)["volumes"].([]object)[0]["csi"].(object), "readOnly")
			},
			"Pod shop/fresh-6c9f7b-x2x4z, volume secrets\n  problem   readOnly: is not true, and the driver refuses such volumes; set readOnly: true under csi\n" + mount, "", 1,
		},
		"attributes that are wrong": {
			func(f *fakeCluster) {
				volume(f, object{"vault": "shop", "secrets": "a", "identity": "workload", "clientID": "11111111-2222-3333-4444-555555555555", "timeOut": "1m"})
			},
			"Pod shop/fresh-6c9f7b-x2x4z, volume secrets\n  problem   timeOut: unknown attribute, did you mean timeout?\n" + mount, "", 1,
		},
		"a placeholder that nobody replaced": {
			func(f *fakeCluster) {
				volume(f, object{"vault": "${VAULT}", "secrets": "a", "clientID": "11111111-2222-3333-4444-555555555555"})
			},
			"  problem   holds the placeholder ${VAULT}, which nothing has replaced\n" + mount, "", 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newShop(t)
			if tc.change != nil {
				tc.change(f)
			}
			code, stdout, stderr := kube(t, f.start(t), "explain", "fresh-6c9f7b-x2x4z")
			got := stdout
			if !strings.HasPrefix(tc.want, head) && strings.HasSuffix(got, tc.want) {
				got = tc.want
			}
			if diff := cmp.Diff(tc.want, got); diff != "" || code != tc.code {
				t.Errorf("exit %d, want %d; stdout (-want +got):\n%s", code, tc.code, diff)
			}
			if !strings.HasPrefix(stderr, tc.said) || (stderr == "") != (tc.said == "") {
				t.Errorf("stderr %q, want %q", stderr, tc.said)
			}
			for _, line := range f.requests() {
				if strings.Contains(line, "secrets") || strings.Contains(line, "portforward") {
					t.Errorf("explain needs %s", line)
				}
			}
		})
	}
}

// Several volumes, lists, and a service principal whose client id is in a Secret.
func TestExplainObjects(t *testing.T) {
	t.Parallel()
	f := newShop(t)
	withSecret := csiVolume("principal", "keyvault-csi.io", object{"vault": "shop", "objects": "- secrets: {prefix: app-}\n- {certificate: web, optional: true}\n"})
	withSecret["csi"].(object)["nodePublishSecretRef"] = object{"name": "sp"}
	f.pods = append(f.pods, appPod("shop", "two-0", "n1", "Running", secretsVolume(), withSecret))
	f.configMaps["keyvault-csi/rules/policy.yaml"] = "rules:\n- {namespaces: ['*'], identities: [servicePrincipal, workload]}\n"
	f.events = []object{failedMount("shop", "two-0", "principal", "no", now().Add(-time.Second))}
	code, stdout, stderr := kube(t, f.start(t), "explain", "two-0")
	for _, want := range []string{
		"Pod shop/two-0, volume secrets\n", "Pod shop/two-0, volume principal\n  identity  servicePrincipal\n",
		"    GET  https://shop.vault.azure.net/secrets      for objects[0]; and then one for each that matches\n" +
			"    GET  https://shop.vault.azure.net/secrets/web  for objects[1]; may be absent\n",
		"    the client id is in a Secret, which is not read: a rule with clientIDs may decide otherwise\n",
		"  last failed mount, 2026-11-29 11:59:59 UTC\n    no\n",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("lacks %q", want)
		}
	}
	if code != 0 || stderr != "" || t.Failed() {
		t.Errorf("exit %d, %q\n%s", code, stderr, stdout)
	}
}

// With an fsGroup the driver writes other modes, except where the attributes have one.
func TestExplainFSGroup(t *testing.T) {
	t.Parallel()
	f := newShop(t)
	pod := appPod("shop", "group-0", "n1", "Running", secretsVolume(), csiVolume("objects", "keyvault-csi.io", object{
		"vault": "shop", "clientID": "11111111-2222-3333-4444-555555555555", "objects": "- {secret: a}\n- {secret: b, mode: '0400'}\n",
	}))
	pod["spec"].(object)["securityContext"] = object{"fsGroup": 0}
	f.pods = append(f.pods, pod)
	code, stdout, stderr := kube(t, f.start(t), "explain", "group-0")
	for _, want := range []string{
		"  2750  certs_keys/\n  0640  secrets/db-password  value of", "  0640  a  value of shop.vault.azure.net secret a\n  0400  b  value of shop.vault.azure.net secret b\n",
	} {
		if code != 0 || stderr != "" || !strings.Contains(stdout, want) {
			t.Errorf("exit %d, %q, want %q in\n%s", code, stderr, want, stdout)
		}
	}
}
