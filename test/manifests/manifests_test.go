// Package manifests_test checks the manifests of the chart: the daemon knows every flag, the CSIDriver object has the settings that the
// daemon needs, and nothing has more permissions than it needs.
//
// It reads the chart's snapshots and deploy, which `make verify` compares with the output of the chart, so it needs no helm.
package manifests_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/policy"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// object is an object of any kind, with the checked fields.
type object struct {
	Kind                         string
	AutomountServiceAccountToken *bool `yaml:"automountServiceAccountToken"`
	Metadata                     struct {
		Name, Namespace     string
		Labels, Annotations map[string]string
	}
	Spec    yaml.Node
	Data    map[string]string
	RoleRef struct{ Kind, Name string } `yaml:"roleRef"`
}

type daemonSet struct {
	Selector struct {
		MatchLabels map[string]string `yaml:"matchLabels"`
	}
	Template struct {
		Metadata struct{ Labels map[string]string }
		Spec     podSpec
	}
}

type podSpec struct {
	ServiceAccountName           string `yaml:"serviceAccountName"`
	AutomountServiceAccountToken *bool  `yaml:"automountServiceAccountToken"`
	HostNetwork                  bool   `yaml:"hostNetwork"`
	HostPID                      bool   `yaml:"hostPID"`
	HostIPC                      bool   `yaml:"hostIPC"`
	InitContainers               []any  `yaml:"initContainers"`
	Affinity                     affinity
	Containers                   []container
	Volumes                      []struct {
		Name      string
		HostPath  struct{ Path, Type string } `yaml:"hostPath"`
		ConfigMap *struct{ Name string }      `yaml:"configMap"`
	}
}

type container struct {
	Args []string
	Env  []struct{ Name, Value string }

	SecurityContext map[string]any `yaml:"securityContext"`
	VolumeMounts    []volumeMount  `yaml:"volumeMounts"`
}

type volumeMount struct {
	Name             string
	MountPath        string `yaml:"mountPath"`
	MountPropagation string `yaml:"mountPropagation"`
	ReadOnly         bool   `yaml:"readOnly"`
}

// set is the objects for one set of values.
type set struct {
	objects []object
	driver  object
	pod     podSpec
	daemon  container
}

// flag returns the value of the daemon's flag, or "".
func (s set) flag(name string) string {
	for _, argument := range s.daemon.Args {
		if value, ok := strings.CutPrefix(argument, "--"+name+"="); ok {
			return value
		}
	}
	return ""
}

// driverName is the name in the flag, or its default.
func (s set) driverName() string { return cmp.Or(s.flag("driver-name"), "keyvault-csi.io") }

// each runs test for every snapshot and for deploy.
func each(t *testing.T, test func(t *testing.T, name string, s set)) {
	t.Helper()
	snapshots, err := filepath.Glob("../../charts/keyvault-csi/snapshots/*.yaml")
	if err != nil || len(snapshots) < 5 {
		t.Fatalf("snapshots: %q, %v", snapshots, err)
	}
	manifests, err := filepath.Glob("../../deploy/*.yaml")
	if err != nil || len(manifests) == 0 {
		t.Fatalf("manifests: %q, %v", manifests, err)
	}
	files := map[string][]string{"deploy": manifests}
	for _, snapshot := range snapshots {
		files[strings.TrimSuffix(filepath.Base(snapshot), ".yaml")] = []string{snapshot}
	}
	for name, files := range files {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, name, read(t, files))
		})
	}
}

func read(t *testing.T, files []string) set {
	t.Helper()
	var s set
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		documents := yaml.NewDecoder(bytes.NewReader(text))
		for {
			var o object
			if err := documents.Decode(&o); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			s.objects = append(s.objects, o)
		}
	}
	for _, o := range s.objects {
		switch o.Kind {
		case "CSIDriver":
			s.driver = o
		case "DaemonSet":
			var d daemonSet
			if err := o.Spec.Decode(&d); err != nil {
				t.Fatal(err)
			}
			if len(d.Template.Spec.Containers) != 1 || len(d.Template.Spec.InitContainers) != 0 {
				t.Fatal("the driver is more than one container")
			}
			for name, value := range d.Selector.MatchLabels {
				if d.Template.Metadata.Labels[name] != value {
					t.Errorf("the selector asks for %s=%s, which the pods do not have", name, value)
				}
			}
			s.pod, s.daemon = d.Template.Spec, d.Template.Spec.Containers[0]
		}
	}
	if s.driver.Kind == "" || s.pod.ServiceAccountName == "" {
		t.Fatal("no CSIDriver or no DaemonSet")
	}
	return s
}

func TestDaemonTakesItsFlags(t *testing.T) {
	t.Parallel()
	binary, err := node.DaemonBinary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T, _ string, s set) {
		// With --version it ends after it has parsed all flags.
		command := exec.CommandContext(t.Context(), binary, append(slices.Clone(s.daemon.Args), "--version")...)
		if out, err := command.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, bytes.TrimSpace(out))
		}
	})
}

func TestCSIDriver(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, name string, s set) {
		cloud, err := azure.CloudByName(s.flag("cloud"), s.flag("authority-host"), s.flag("vault-dns-suffix"))
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]any{
			"attachRequired":       false,
			"podInfoOnMount":       true,
			"volumeLifecycleModes": []any{"Ephemeral"},
			"requiresRepublish":    true,
			"fsGroupPolicy":        "None",
			"tokenRequests":        []any{map[string]any{"audience": cloud.FederationAudience}},
		}
		if name == "second-driver" {
			want["tokenRequests"] = append(want["tokenRequests"].([]any), map[string]any{"audience": "api://AKSIdentityBinding"})
		}
		if name != "kubernetes-1.34" {
			want["serviceAccountTokenInSecrets"] = true
		}
		got := map[string]any{}
		if err := s.driver.Spec.Decode(&got); err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("spec (-want +got):\n%s", diff)
		}
		if s.driver.Metadata.Name != s.driverName() || (name == "second-driver") != (s.driverName() == "second.keyvault-csi.io") {
			t.Errorf("its name is %q, and the driver's %q", s.driver.Metadata.Name, s.driverName())
		}
		if profile := s.driver.Metadata.Labels["security.openshift.io/csi-ephemeral-volume-profile"]; profile != "restricted" {
			t.Errorf("the profile for OpenShift is %q", profile)
		}
	})
}

// To mount for others the driver needs a privileged container, and no other permission.
func TestRights(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, name string, s set) {
		for _, o := range s.objects {
			switch o.Kind {
			case "CSIDriver", "DaemonSet", "ConfigMap", "Service", "PodMonitor", "ServiceMonitor", "PrometheusRule", "NetworkPolicy",
				"Namespace", "Kustomization":
			// Policies are evaluated by the API server, and give no rights.
			case "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding":
				if name != "admission" && name != "second-driver" {
					t.Errorf("there is a %s, which no value asks for", o.Kind)
				}
			// The pod of helm test.
			case "Pod":
				if name != "second-driver" || o.Metadata.Annotations["helm.sh/hook"] != "test" {
					t.Errorf("there is a pod %s", o.Metadata.Name)
				}
			case "ServiceAccount":
				if o.AutomountServiceAccountToken == nil || *o.AutomountServiceAccountToken {
					t.Error("the service account hands out its token")
				}
				if name == "existing-account" {
					t.Error("there is a service account, which is made elsewhere")
				}
				if o.Metadata.Name != s.pod.ServiceAccountName {
					t.Errorf("the pod's service account is %q, the object is %q", s.pod.ServiceAccountName, o.Metadata.Name)
				}
			case "RoleBinding":
				if name != "openshift" && name != "second-driver" || o.RoleRef.Kind+" "+o.RoleRef.Name != "ClusterRole system:openshift:scc:privileged" {
					t.Errorf("a right at the API server: %s %s", o.RoleRef.Kind, o.RoleRef.Name)
				}
			default:
				t.Errorf("there is a %s", o.Kind)
			}
		}
		if mounted := s.pod.AutomountServiceAccountToken; mounted == nil || *mounted {
			t.Error("the pod has a service account token")
		}
		if s.pod.HostPID || s.pod.HostIPC || s.pod.HostNetwork != (name == "ca-and-proxy") {
			t.Error("the pod shares more of the node than its values ask for")
		}
		want := map[string]any{"privileged": true, "readOnlyRootFilesystem": true, "runAsUser": 0, "runAsGroup": 0}
		if diff := gocmp.Diff(want, s.daemon.SecurityContext); diff != "" {
			t.Errorf("security context (-want +got):\n%s", diff)
		}
	})
}

func TestMounts(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, name string, s set) {
		root := s.flag("kubelet-root")
		wantPaths := []string{
			"plugin " + root + "/plugins/" + s.driverName() + " DirectoryOrCreate",
			"registration " + root + "/plugins_registry Directory",
			"pods " + root + "/pods Directory",
		}
		if got, want := s.flag("registration-socket"), "/registration/"+s.driverName()+"-reg.sock"; got != want {
			t.Errorf("the registration socket is %s, want %s", got, want)
		}
		wantMounts := []volumeMount{
			{Name: "plugin", MountPath: "/csi"},
			{Name: "registration", MountPath: "/registration"},
			{Name: "pods", MountPath: root + "/pods", MountPropagation: "Bidirectional"},
		}
		if name == "provider-mode" {
			if socket := s.flag("provider-socket"); socket != "/provider/azure.sock" {
				t.Errorf("the socket is %s; the Secrets Store CSI Driver looks for azure.sock", socket)
			}
			wantPaths = append(wantPaths, "provider /etc/kubernetes/secrets-store-csi-providers DirectoryOrCreate")
			wantMounts = append(wantMounts, volumeMount{Name: "provider", MountPath: "/provider"})
		}
		if file := s.flag("ca-bundle"); file != "" {
			wantMounts = append(wantMounts, volumeMount{Name: "ca", MountPath: filepath.Dir(file), ReadOnly: true})
		}
		if file := s.flag("policy-file"); file != "" {
			wantMounts = append(wantMounts, volumeMount{Name: "policy", MountPath: filepath.Dir(file), ReadOnly: true})
		}
		if name == "aks-cluster-identity" {
			if file := s.flag("cluster-identity-file"); file != "/etc/kubernetes/azure.json" {
				t.Errorf("the driver reads %s, not the file where the node has it", file)
			}
			wantPaths = append(wantPaths, "cluster-identity /etc/kubernetes Directory")
			wantMounts = append(wantMounts,
				volumeMount{Name: "cluster-identity", MountPath: filepath.Dir(s.flag("cluster-identity-file")), ReadOnly: true})
		}
		var paths, volumes, mounts []string
		for _, v := range s.pod.Volumes {
			volumes = append(volumes, v.Name)
			if v.HostPath.Path != "" {
				paths = append(paths, fmt.Sprint(v.Name, " ", v.HostPath.Path, " ", v.HostPath.Type))
			}
		}
		if diff := gocmp.Diff(wantPaths, paths); diff != "" {
			t.Errorf("paths of the node (-want +got):\n%s", diff)
		}
		if diff := gocmp.Diff(wantMounts, s.daemon.VolumeMounts); diff != "" {
			t.Errorf("mounts (-want +got):\n%s", diff)
		}
		for _, mount := range s.daemon.VolumeMounts {
			mounts = append(mounts, mount.Name)
		}
		if diff := gocmp.Diff(volumes, mounts); diff != "" {
			t.Errorf("volumes and mounts differ (-volumes +mounts):\n%s", diff)
		}
	})
}

func TestDriverReadsItsPolicy(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, name string, s set) {
		policies := 0
		for _, o := range s.objects {
			text, ok := o.Data["policy.yaml"]
			if !ok {
				continue
			}
			policies++
			rules, err := policy.Parse([]byte(text))
			if err != nil {
				t.Errorf("%v in\n%s", err, text)
				continue
			}
			asked := volume.Request{Pod: volume.Pod{Namespace: "shop", ServiceAccount: "web"}, Identity: volume.Identity{Kind: volume.Workload}}
			if after := rules.RefreshAfter(asked, time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC)); name == "aks-cluster-identity" &&
				!after.Equal(time.Date(2026, 11, 28, 8, 30, 0, 0, time.UTC)) {
				t.Errorf("the refreshAfter of a rule is %v", after)
			}
			if _, err := rules.Allow(asked); (err != nil) != (name == "refuse-everything") {
				t.Errorf("a workload identity: %v", err)
			}
		}
		if (policies == 1) != (name == "aks-cluster-identity" || name == "refuse-everything") {
			t.Errorf("there are %d policies", policies)
		}
	})
}

// The metadata service answers with a token of the node in clear text.
func TestProxyNeverSeesTheMetadataService(t *testing.T) {
	t.Parallel()
	proxies := map[string]string{"ca-and-proxy": "169.254.169.254,.example.com,10.0.0.0/8"}
	each(t, func(t *testing.T, name string, s set) {
		environment := map[string]string{}
		for _, variable := range s.daemon.Env {
			environment[variable.Name] = variable.Value
		}
		if _, ok := environment["NODE_NAME"]; !ok {
			t.Error("the driver is not told the name of its node")
		}
		if got, want := environment["NO_PROXY"], proxies[name]; got != want {
			t.Errorf("NO_PROXY is %q, not %q", got, want)
		}
	})
}
