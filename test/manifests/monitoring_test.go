package manifests_test

import (
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
	// The snapshot's release has the fullname vaults.
	text = []byte(strings.Replace(string(text), fmt.Sprintf(job, "keyvault-csi"), fmt.Sprintf(job, "vaults"), 1))
	var want any
	if err := yaml.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T, name string, s set) {
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
		if found != (name == "monitoring") {
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
