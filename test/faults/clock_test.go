package faults_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// A node with a clock that is wrong by hours publishes and refreshes: the vault alone judges tokens. By the clock of such a node
// tokens have expired when they arrive, or become valid in hours.
func TestTheClockOfTheNodeIsWrong(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]time.Duration{"two hours ahead": 2 * time.Hour, "two hours behind": -2 * time.Hour} {
		for _, managed := range []bool{false, true} {
			identity := "workload"
			if managed {
				identity = "managed"
			}
			t.Run(identity+", "+name, func(t *testing.T) {
				cloud := devcloud.Options{Now: func() time.Time { return time.Now().Add(-ahead) }}
				if managed {
					needsNetwork(t)
					metadataOwner.Lock()
					defer metadataOwner.Unlock()
					cloud.IMDSListen = node.MetadataAddress + ":80"
				}
				n := node.New(t, node.Options{Cloud: cloud, Flags: []string{managedAllowed(t)}})
				if err := n.Cloud.AddIdentity(devcloud.Identity{Tenant: node.Tenant, ClientID: assignedID, Managed: true}); err != nil {
					t.Fatal(err)
				}
				n.Vault.Grant(assignedID)
				v := healthyVolume("clock")
				v.Attributes["identity"] = identity
				if managed {
					v.Attributes["clientID"] = assignedID
				}
				for _, want := range []string{"first", "second"} {
					n.Vault.SetSecret("value", want, devcloud.SecretOptions{})
					n.MustPublish(t, v)
					if got, err := os.ReadFile(filepath.Join(n.Target(v), "secrets/value")); err != nil || string(got) != want {
						t.Errorf("the pod reads %q, %v, want %q", got, err, want)
					}
					n.Age(t, v, old)
				}
				if strings.Contains(n.Output(), "call failed") {
					t.Errorf("the daemon wrote:\n%s", n.Output())
				}
			})
		}
	}
	if !t.Failed() {
		suite.Verdict(t, "clock skew: a node two hours ahead or behind publishes and refreshes")
	}
}

// assignedID is a managed identity of the node.
const assignedID = "44444444-0000-0000-0000-000000000002"
