package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"
)

// now is the clock of the nodes.
func now() time.Time { return time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC) }

func appPod(namespace, name, node, phase string, volumes ...object) object {
	return object{
		"kind": "Pod", "apiVersion": "v1",
		"metadata": object{"namespace": namespace, "name": name, "uid": "uid-" + name, "labels": object{"app": strings.Split(name, "-")[0]}},
		"spec":     object{"nodeName": node, "serviceAccountName": "web", "volumes": volumes},
		"status":   object{"phase": phase},
	}
}

func csiVolume(name, driver string, attributes object) object {
	return object{"name": name, "csi": object{"driver": driver, "readOnly": true, "volumeAttributes": attributes}}
}

func secretsVolume() object {
	return csiVolume("secrets", "keyvault-csi.io", object{"vault": "shop", "clientID": "11111111-2222-3333-4444-555555555555", "secrets": "db-password"})
}

func driverPod(name, node string, args ...string) object {
	return object{
		"kind": "Pod", "apiVersion": "v1",
		"metadata": object{"namespace": "keyvault-csi", "name": name, "uid": name, "creationTimestamp": now(), "labels": object{"app.kubernetes.io/component": "csi-driver"}},
		"spec": object{
			"nodeName": node,
			"containers": []object{{
				"name": "driver", "args": append([]string{"--endpoint=unix:///csi/csi.sock", "--kubelet-root=/var/lib/kubelet"}, args...),
				"securityContext": object{"privileged": true},
				"ports":           []object{{"name": "http", "containerPort": 9808}},
				"volumeMounts":    []object{{"name": "policy", "mountPath": "/etc/keyvault-csi/policy"}},
			}},
			"volumes": []object{{"name": "policy", "configMap": object{"name": "rules", "items": []object{{"key": "policy.yaml", "path": "policy.yaml"}}}}},
		},
		"status": object{"phase": "Running"},
	}
}

// listed is a volume of /volumes.
func listed(pod, volume string, more object) object {
	v := object{"id": fmt.Sprintf("csi-%x", sha256.Sum256([]byte("uid-"+pod+volume))), "certificates": nil}
	maps.Copy(v, more)
	return v
}

func before(age time.Duration) string { return now().Add(-age).Format(time.RFC3339) }

func listens(t *testing.T, volumes ...object) http.Handler {
	t.Helper()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/volumes" || r.Host != "127.0.0.1:9808" {
			t.Errorf("the driver is asked for %s of %s", r.URL.Path, r.Host)
		}
		_ = json.NewEncoder(w).Encode(object{"driver": "keyvault-csi.io", "node": "n", "version": "v1", "now": now(), "leftOut": 0, "volumes": volumes})
	})
}

func failedMount(namespace, pod, volume, why string, at time.Time) object {
	return object{
		"metadata": object{"namespace": namespace}, "involvedObject": object{"namespace": namespace, "uid": "uid-" + pod}, "lastTimestamp": at,
		"message": fmt.Sprintf("MountVolume.SetUp failed for volume %q : rpc error: code = NotFound desc = %s", volume, why),
	}
}

// newShop is a cluster with two nodes and pods in all states.
func newShop(t *testing.T) *fakeCluster {
	t.Helper()
	return &fakeCluster{
		pods: []object{
			driverPod("driver-1", "n1", "--policy-file=/etc/keyvault-csi/policy/policy.yaml"),
			driverPod("driver-2", "n2", "--policy-file=/etc/keyvault-csi/policy/policy.yaml"),
			appPod("shop", "fresh-6c9f7b-x2x4z", "n1", "Running", secretsVolume(), csiVolume("other", "csi.example.com", nil)),
			appPod("shop", "old-0", "n2", "Running", secretsVolume()),
			appPod("shop", "failing-0", "n2", "Running", secretsVolume()),
			appPod("shop", "gap-0", "n2", "Running", secretsVolume()),
			appPod("shop", "broken-0", "n1", "Pending", secretsVolume()),
			appPod("shop", "starting-0", "n1", "Pending", secretsVolume()),
			appPod("shop", "homeless-0", "", "Pending", secretsVolume()),
			appPod("shop", "unseen-0", "n1", "Running", secretsVolume()),
			appPod("shop", "done-0", "n1", "Succeeded", secretsVolume()),
			appPod("shop", "without-0", "n1", "Running", csiVolume("other", "csi.example.com", nil)),
			appPod("pay", "fresh-0", "n1", "Running", secretsVolume()),
		},
		events: []object{
			failedMount("shop", "broken-0", "secrets", "an older error", now().Add(-time.Hour)),
			failedMount("shop", "broken-0", "secrets", `secrets[0]: secret "db-password" does not exist`, now().Add(-time.Minute)),
			failedMount("shop", "fresh-6c9f7b-x2x4z", "secrets", "of the time before the first mount", now().Add(-time.Hour)),
			{"metadata": object{"namespace": "shop"}, "involvedObject": object{"uid": "uid-broken-0"}, "message": "Unable to attach or mount volumes", "lastTimestamp": now()},
		},
		configMaps: map[string]string{"keyvault-csi/rules/policy.yaml": "rules:\n- {namespaces: [shop], identities: [workload]} # of the shop\n"},
		ports: map[string]http.Handler{
			"keyvault-csi/driver-1": listens(t,
				listed("fresh-6c9f7b-x2x4z", "secrets", object{"fetched": before(90 * time.Second), "certificates": []object{
					{"file": "tls/web.crt", "notAfter": before(-72 * time.Hour)}, {"file": "tls/api.crt", "notAfter": before(-100 * time.Hour)},
				}}),
				listed("fresh-0", "secrets", object{"fetched": before(5 * time.Minute), "certificates": []object{{"file": "a.crt", "notAfter": before(3 * time.Hour)}}}),
			),
			"keyvault-csi/driver-2": listens(t,
				listed("old-0", "secrets", object{"fetched": before(3 * time.Hour), "reason": "Stale", "message": "vault is down"}),
				listed("failing-0", "secrets", object{"fetched": before(4 * time.Minute), "reason": "RefreshFailed", "message": "vault is slow"}),
				listed("gap-0", "secrets", object{"fetched": before(time.Minute), "reason": "IncompleteChain", "message": "a gap"}),
			),
		},
	}
}

// rows are the cells of a table.
func rows(text string) (all [][]string) {
	for line := range strings.Lines(text) {
		var cells []string
		for cell := range strings.SplitSeq(strings.TrimRight(line, "\n"), "   ") {
			if cell = strings.TrimSpace(cell); cell != "" {
				cells = append(cells, cell)
			}
		}
		all = append(all, cells)
	}
	return all
}

// shopRows is the table of the namespace shop.
func shopRows() [][]string {
	return [][]string{
		{"POD", "VOLUME", "STATE", "AGE", "CERTIFICATES", "MESSAGE"},
		{"broken-0", "secrets", "failed", "-", "-", `secrets[0]: secret "db-password" does not exist`},
		{"failing-0", "secrets", "failing", "4m", "-", "vault is slow"},
		{"fresh-6c9f7b-x2x4z", "secrets", "fresh", "90s", "tls/web.crt ends in 3d (+1)"},
		{"gap-0", "secrets", "degraded", "60s", "-", "a gap"},
		{"homeless-0", "secrets", "waiting", "-", "-", "the pod has no node yet"},
		{"old-0", "secrets", "stale", "3h", "-", "vault is down"},
		{"starting-0", "secrets", "waiting", "-", "-"},
		{"unseen-0", "secrets", "unseen", "-", "-", "not yet seen by the driver since its start"},
	}
}
