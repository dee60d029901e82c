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

// The alerts are those of the file that test/observe tries, but for the job: that is the release's own.
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

// The ConfigMap holds the dashboard byte for byte, where the sidecar of Grafana finds it, and only if it is asked for.
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
