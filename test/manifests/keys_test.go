package manifests_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.yaml.in/yaml/v3"
)

// No key is there twice, also where the values have labels or node labels that the charts set too: kustomize, and what is built on it, refuses
// such a file. The snapshots second-driver and everything have such values.
func TestEachKeyIsThereOnce(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../charts/*/snapshots/*.yaml")
	if err != nil || len(files) < 8 {
		t.Fatalf("snapshots: %q, %v", files, err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		documents := yaml.NewDecoder(bytes.NewReader(text))
		for err == nil {
			var document any
			err = documents.Decode(&document)
		}
		if !errors.Is(err, io.EOF) { // one that has a key twice
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The driver is on no node without a kubelet that mounts: the pods of a DaemonSet would wait there for ever, and an upgrade with them.
func TestNodesOfTheDriver(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, _ string, s set) {
		terms := s.pod.Affinity.NodeAffinity.Required.Terms
		if len(terms) != 1 {
			t.Fatalf("%d terms", len(terms))
		}
		for key, value := range map[string]string{"type": "virtual-kubelet", "eks.amazonaws.com/compute-type": "fargate"} {
			if !slices.ContainsFunc(terms[0].Expressions, func(e expression) bool {
				return e.Key == key && e.Operator == "NotIn" && slices.Equal(e.Values, []string{value})
			}) {
				t.Errorf("nodes with %s=%s are not left out: %+v", key, value, terms[0])
			}
		}
	})
}

// The pod of helm test has no right of its own, and on OpenShift a user of its namespace.
func TestUserOfHelmTest(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, name string, s set) {
		for _, o := range s.objects {
			var pod struct {
				SecurityContext struct {
					RunAsNonRoot bool   `yaml:"runAsNonRoot"`
					RunAsUser    *int64 `yaml:"runAsUser"`
				} `yaml:"securityContext"`
			}
			if o.Kind != "Pod" {
				continue
			}
			if err := o.Spec.Decode(&pod); err != nil {
				t.Fatal(err)
			}
			named := pod.SecurityContext.RunAsUser != nil
			if !pod.SecurityContext.RunAsNonRoot || named == (name == "second-driver") {
				t.Errorf("security context: %+v", pod.SecurityContext)
			}
		}
	})
}

type affinity struct {
	NodeAffinity struct {
		Required struct {
			Terms []struct {
				Expressions []expression `yaml:"matchExpressions"`
			} `yaml:"nodeSelectorTerms"`
		} `yaml:"requiredDuringSchedulingIgnoredDuringExecution"`
	} `yaml:"nodeAffinity"`
}

type expression struct {
	Key, Operator string
	Values        []string
}
