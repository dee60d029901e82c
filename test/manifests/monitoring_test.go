package manifests_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// The alerts are those of the file that test/observe tests, with the release's job.
func TestTheRuleIsTheFile(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../charts/keyvault-csi/rules/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const job = `up{job=~"(keyvault-csi/)?%s"} == 0`
	if n := strings.Count(string(text), fmt.Sprintf(job, "keyvault-csi")); n != 1 {
		t.Fatalf("the file asks for the job %d times", n)
	}
	// The job of a PodMonitor has its namespace, and the release's fullname.
	jobs := map[string]string{"monitoring": `up{job=~"(keyvault-csi/)?vaults"} == 0`, "second-driver": `up{job=~"(monitoring/)?second"} == 0`}
	each(t, func(t *testing.T, name string, s set) {
		var want any
		if err := yaml.Unmarshal(bytes.Replace(text, fmt.Appendf(nil, job, "keyvault-csi"), []byte(jobs[name]), 1), &want); err != nil {
			t.Fatal(err)
		}
		found := false
		for _, o := range s.objects {
			if o.Kind != "PrometheusRule" {
				continue
			}
			found = true
			var got any
			if err := o.Spec.Decode(&got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-file +snapshot):\n%s", diff)
			}
		}
		if found != (jobs[name] != "") {
			t.Errorf("there is a rule: %t", found)
		}
	})
}

// The ConfigMap has exactly the dashboard, with the label for Grafana's sidecar, and exists only if the values enable it.
func TestTheDashboardIsTheFile(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile("../../charts/keyvault-csi/dashboards/keyvault-csi.json")
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(want) {
		t.Fatal("the dashboard is no JSON")
	}
	each(t, func(t *testing.T, name string, s set) {
		found := false
		for _, o := range s.objects {
			got, ok := o.Data["keyvault-csi.json"]
			if !ok {
				continue
			}
			found = true
			if strings.TrimSpace(got) != strings.TrimSpace(string(want)) {
				t.Error("the ConfigMap holds something else than the file")
			}
			if o.Metadata.Namespace != "grafana" || o.Metadata.Labels["grafana_dashboard"] != "1" {
				t.Errorf("it is in the namespace %q with the labels %v", o.Metadata.Namespace, o.Metadata.Labels)
			}
		}
		if found != (name == "monitoring") {
			t.Errorf("there is a dashboard: %t", found)
		}
	})
}

// The NetworkPolicy applies to the driver's pods and its HTTP port, allows nothing else in, does not limit outgoing connections, and exists
// only if the values enable it.
func TestTheNetworkPolicy(t *testing.T) {
	t.Parallel()
	type labels struct {
		MatchLabels map[string]string `yaml:"matchLabels"`
	}
	type peer struct {
		NamespaceSelector labels `yaml:"namespaceSelector"`
		PodSelector       labels `yaml:"podSelector"`
	}
	type port struct{ Port, Protocol string }
	type rule struct {
		From  []peer
		Ports []port
	}
	type networkPolicy struct {
		PodSelector labels   `yaml:"podSelector"`
		PolicyTypes []string `yaml:"policyTypes"`
		Ingress     []rule
		Egress      []any
	}
	each(t, func(t *testing.T, name string, s set) {
		var found []networkPolicy
		for _, o := range s.objects {
			if o.Kind != "NetworkPolicy" {
				continue
			}
			var p networkPolicy
			if err := o.Spec.Decode(&p); err != nil {
				t.Fatal(err)
			}
			found = append(found, p)
		}
		var want []networkPolicy
		if name == "monitoring" {
			var driver daemonSet
			for _, o := range s.objects {
				if o.Kind == "DaemonSet" {
					if err := o.Spec.Decode(&driver); err != nil {
						t.Fatal(err)
					}
				}
			}
			want = []networkPolicy{{
				PodSelector: labels{driver.Selector.MatchLabels},
				PolicyTypes: []string{"Ingress"},
				Ingress: []rule{{
					From: []peer{{
						NamespaceSelector: labels{map[string]string{"kubernetes.io/metadata.name": "monitoring"}},
						PodSelector:       labels{map[string]string{"app.kubernetes.io/name": "prometheus"}},
					}},
					Ports: []port{{"http", "TCP"}},
				}},
			}}
		}
		if diff := cmp.Diff(want, found); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// Each object of the chart has the common annotations, and its own win. A monitor elsewhere finds the pods of the release's namespace.
func TestAnnotations(t *testing.T) {
	t.Parallel()
	own := map[string]string{
		"ServiceAccount": "platform", "CSIDriver": "storage", "PodMonitor": "observability", "PrometheusRule": "observability",
	}
	each(t, func(t *testing.T, name string, s set) {
		for _, o := range s.objects {
			if name != "second-driver" {
				continue
			}
			want := map[string]string{"example.com/contact": "platform", "example.com/owner": "everyone"}
			if owner := own[o.Kind]; owner != "" {
				want["example.com/owner"] = owner
			}
			for key, value := range want {
				if got := o.Metadata.Annotations[key]; got != value {
					t.Errorf("%s %s: the annotation %s is %q, want %q", o.Kind, o.Metadata.Name, key, got, value)
				}
			}
			if o.Kind != "PodMonitor" && o.Kind != "ServiceMonitor" {
				continue
			}
			var spec struct {
				NamespaceSelector struct {
					MatchNames []string `yaml:"matchNames"`
				} `yaml:"namespaceSelector"`
			}
			if err := o.Spec.Decode(&spec); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"keyvault-csi"}, spec.NamespaceSelector.MatchNames); diff != "" || o.Metadata.Namespace != "monitoring" {
				t.Errorf("%s in %s selects (-want +got):\n%s", o.Kind, o.Metadata.Namespace, diff)
			}
		}
	})
}
