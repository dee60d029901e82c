package manifests_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/keyvault-csi/keyvault-csi/pkg/migrate"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// secondDriver is the driver of one snapshot's volume.
const secondDriver = "second.keyvault-csi.io"

// syncObject is an object of the chart keyvault-csi-sync.
type syncObject struct {
	Kind     string
	Metadata struct{ Name, Namespace string }
	Rules    []struct {
		APIGroups     []string `yaml:"apiGroups"`
		Resources     []string
		ResourceNames []string `yaml:"resourceNames"`
		Verbs         []string
	}
	RoleRef struct{ Kind string } `yaml:"roleRef"`
	Data    map[string]string
	Spec    struct {
		Replicas int
		Strategy struct{ Type string }
		Template struct{ Spec syncPod }
		syncPod  `yaml:",inline"`
	}
}

type syncPod struct {
	SecurityContext map[string]any `yaml:"securityContext"`
	HostNetwork     bool           `yaml:"hostNetwork"`
	Containers      []struct {
		SecurityContext map[string]any `yaml:"securityContext"`
	}
	Volumes []struct {
		HostPath any `yaml:"hostPath"`
		CSI      *struct {
			Driver   string
			ReadOnly bool `yaml:"readOnly"`
		}
	}
}

// eachSync runs test for the objects of every snapshot.
func eachSync(t *testing.T, test func(t *testing.T, name string, objects []syncObject)) {
	t.Helper()
	snapshots, err := filepath.Glob("../../charts/keyvault-csi-sync/snapshots/*.yaml")
	if err != nil || len(snapshots) < 3 {
		t.Fatalf("snapshots: %q, %v", snapshots, err)
	}
	for _, snapshot := range snapshots {
		name := strings.TrimSuffix(filepath.Base(snapshot), ".yaml")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(snapshot)
			if err != nil {
				t.Fatal(err)
			}
			ours := bytes.ReplaceAll(text, []byte("driver: "+secondDriver), []byte("driver: "+migrate.DriverName))
			volumes, err := migrate.Volumes([]migrate.File{{Name: name, Data: ours}}, volume.Defaults{VaultSuffix: "vault.azure.net"})
			if err != nil || len(volumes) != 1 || len(volumes[0].Problems) > 0 {
				t.Errorf("the volumes: %+v, %v", volumes, err)
			}
			test(t, name, decodeSync(t, text))
		})
	}
}

func decodeSync(t *testing.T, text []byte) (objects []syncObject) {
	t.Helper()
	documents := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var o syncObject
		if err := documents.Decode(&o); errors.Is(err, io.EOF) {
			return objects
		} else if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, o)
	}
}

// The pod has rights in its namespace only, and there only for the named Secrets unless it prunes.
func TestSyncRights(t *testing.T) {
	t.Parallel()
	eachSync(t, func(t *testing.T, name string, objects []syncObject) {
		roles := 0
		for _, o := range objects {
			switch o.Kind {
			case "ServiceAccount", "ConfigMap", "Deployment", "Pod", "PodMonitor":
			case "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding": // they take rights away
				// No namespace has a dot, so that no release of another one has an object of the cluster with this name.
				if !strings.HasPrefix(o.Metadata.Name, "shop.") {
					t.Errorf("the policy is named %s, want shop.", o.Metadata.Name)
				}
				continue
			case "RoleBinding":
				if o.RoleRef.Kind != "Role" {
					t.Errorf("it binds a %s", o.RoleRef.Kind)
				}
			case "Role":
				roles++
				var named []string
				for _, o := range objects {
					var c struct{ Secrets []struct{ Name string } }
					if err := yaml.Unmarshal([]byte(o.Data["secrets.yaml"]), &c); err != nil {
						t.Fatal(err)
					}
					for _, secret := range c.Secrets {
						named = append(named, secret.Name)
					}
				}
				rules := map[string][]string{}
				for _, r := range o.Rules {
					what := strings.Join(r.APIGroups, ",") + "/" + strings.Join(r.Resources, ",") + " " + strings.Join(r.Verbs, ",")
					rules[what] = r.ResourceNames
				}
				want := map[string][]string{"/secrets get,watch,create,patch": named, "/events create": nil}
				if name == "everything" {
					want["/secrets list,delete"] = nil
				}
				if diff := cmp.Diff(want, rules); diff != "" {
					t.Errorf("rules (-want +got):\n%s", diff)
				}
			default:
				t.Errorf("there is a %s", o.Kind)
			}
			if o.Metadata.Namespace != "shop" && (o.Kind != "PodMonitor" || o.Metadata.Namespace != "monitoring") {
				t.Errorf("a %s in namespace %q", o.Kind, o.Metadata.Namespace)
			}
		}
		if roles != 1 {
			t.Errorf("there are %d Roles", roles)
		}
	})
}

// The pods pass Pod Security's restricted, and have a read-only root. They name no user, because OpenShift's restricted-v2 allows only those
// of the namespace.
func TestSyncPods(t *testing.T) {
	t.Parallel()
	eachSync(t, func(t *testing.T, name string, objects []syncObject) {
		for _, o := range objects {
			pod := o.Spec.syncPod
			switch o.Kind {
			case "Deployment":
				if o.Spec.Replicas != 1 || o.Spec.Strategy.Type != "Recreate" {
					t.Errorf("%d replicas, %s", o.Spec.Replicas, o.Spec.Strategy.Type)
				}
				pod = o.Spec.Template.Spec
			case "Pod":
			default:
				continue
			}
			wantPod := map[string]any{
				"runAsNonRoot": true, "seccompProfile": map[string]any{"type": "RuntimeDefault"},
			}
			if diff := cmp.Diff(wantPod, pod.SecurityContext); diff != "" {
				t.Errorf("security context of the pod (-want +got):\n%s", diff)
			}
			if pod.HostNetwork || len(pod.Containers) != 1 {
				t.Fatalf("host network: %t, containers: %d", pod.HostNetwork, len(pod.Containers))
			}
			wantContainer := map[string]any{
				"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": map[string]any{"drop": []any{"ALL"}},
			}
			if diff := cmp.Diff(wantContainer, pod.Containers[0].SecurityContext); diff != "" {
				t.Errorf("security context of the container (-want +got):\n%s", diff)
			}
			driver := migrate.DriverName
			if name == "existing-account" {
				driver = secondDriver
			}
			for _, v := range pod.Volumes {
				if v.HostPath != nil {
					t.Error("a path of the node is mounted")
				}
				if v.CSI != nil && (v.CSI.Driver != driver || !v.CSI.ReadOnly) {
					t.Errorf("the volume is %+v", v.CSI)
				}
			}
		}
	})
}
