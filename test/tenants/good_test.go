package tenants_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// good is the tenant whose volumes must be published and rotate.
type good struct {
	node *node.Node
	next int
}

const goodSecrets = 10

func newGood(t *testing.T, n *node.Node) *good {
	t.Helper()
	g := &good{node: n}
	g.change(0)
	return g
}

func (g *good) change(generation int) {
	for i := range goodSecrets {
		g.node.Vault.SetSecret(fmt.Sprint("good-", i), fmt.Sprint("generation ", generation), devcloud.SecretOptions{})
	}
}

func (g *good) volume(name string) kubelet.Volume {
	var objects strings.Builder
	for i := range goodSecrets {
		fmt.Fprintf(&objects, "- secret: good-%d\n", i)
	}
	return node.Volume(name, "objects", objects.String())
}

type latencies struct{ p50, p99 time.Duration }

// measure publishes and removes volumes, one after the other.
func (g *good) measure(t *testing.T, times int) latencies {
	t.Helper()
	var took []time.Duration
	for range times {
		g.next++
		v := g.volume(fmt.Sprint("good", g.next))
		began := time.Now()
		if err := g.node.Publish(t.Context(), v); err != nil {
			t.Fatalf("a volume of the good tenant: %v", err)
		}
		took = append(took, time.Since(began))
		if err := g.node.Unpublish(t.Context(), v); err != nil {
			t.Fatalf("a volume of the good tenant: %v", err)
		}
	}
	slices.Sort(took)
	return latencies{took[len(took)/2], took[(len(took)-1)*99/100]}
}

// rotate changes the values and calls as the kubelet does after the interval. Each call must write the new values.
func (g *good) rotate(t *testing.T, times int) {
	t.Helper()
	v := g.volume("rotating")
	for generation := range times {
		if generation > 0 {
			g.change(generation)
			g.node.Age(t, v, 3*time.Minute)
		}
		if err := g.node.Publish(t.Context(), v); err != nil {
			t.Fatalf("rotation %d of the good tenant: %v", generation, err)
		}
		want := fmt.Sprint("generation ", generation)
		got, err := os.ReadFile(filepath.Join(g.node.Target(v), "good-3"))
		if generation > 0 && (err != nil || string(got) != want) {
			t.Errorf("rotation %d of the good tenant is late: %q, %v", generation, got, err)
		}
	}
	if err := g.node.Unpublish(t.Context(), v); err != nil {
		t.Error(err)
	}
}
