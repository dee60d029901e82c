package daemon_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// listed is a node whose vault has a hundred secrets that were last changed an hour ago.
func listed(t *testing.T, flags ...string) (n *node.Node, names string) {
	t.Helper()
	n = node.New(t, node.Options{Flags: flags})
	var all []string
	for i := range 100 {
		name := fmt.Sprintf("s-%03d", i)
		n.Vault.SetSecret(name, "first", devcloud.SecretOptions{Created: time.Now().Add(-time.Hour)})
		all = append(all, name)
	}
	return n, strings.Join(all, ";")
}

// refreshes makes a volume due, and returns how many pages of lists and how many secrets its refresh has read.
func refreshes(t *testing.T, n *node.Node, v kubelet.Volume) (lists, gets int) {
	t.Helper()
	n.Age(t, v, 3*time.Minute)
	n.Cloud.ResetCounts()
	n.MustPublish(t, v)
	return n.Cloud.Count(devcloud.CountKey{Kind: "secrets/list", Status: 200}), n.Cloud.Count(devcloud.CountKey{Kind: "secrets/get", Status: 200})
}

// A volume with changeDetection list sends a twentieth of the requests while nothing changes, and finds what does. The
// attribute wins over the operator's default.
func TestChangeDetection(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		flags       []string
		attributes  []string
		lists, gets int
	}{
		"off by default":         {nil, nil, 0, 100},
		"of the pod":             {nil, []string{"changeDetection", "list"}, 5, 0},
		"of the operator":        {[]string{"--default-change-detection=list"}, nil, 5, 0},
		"the pod's wins":         {[]string{"--default-change-detection=list"}, []string{"changeDetection", "read"}, 0, 100},
		"the operator's is read": {[]string{"--default-change-detection=read"}, nil, 0, 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, names := listed(t, test.flags...)
			v := workload(append([]string{"secrets", names}, test.attributes...)...)
			n.MustPublish(t, v)
			if lists, gets := refreshes(t, n, v); lists != test.lists || gets != test.gets {
				t.Errorf("%d pages and %d secrets, want %d and %d", lists, gets, test.lists, test.gets)
			}
			n.Vault.SetSecret("s-042", "second", devcloud.SecretOptions{})
			if lists, gets := refreshes(t, n, v); lists != test.lists || gets != max(1, test.gets) {
				t.Errorf("after a change %d pages and %d secrets, want %d and %d", lists, gets, test.lists, max(1, test.gets))
			}
			if got := node.ReadFile(t, filepath.Join(n.Target(v), "secrets/s-042")); got != "second" {
				t.Errorf("the pod reads %q", got)
			}
		})
	}
}

// An identity that may not list has what it had without the attribute. The log says once what is missing.
func TestChangeDetectionWithoutRights(t *testing.T) {
	t.Parallel()
	n, names := listed(t)
	n.Vault.Deny(node.WorkloadID, devcloud.SecretsList)
	v := workload("secrets", names, "changeDetection", "list")
	n.MustPublish(t, v)
	for range 2 {
		if lists, gets := refreshes(t, n, v); lists != 0 || gets != 100 {
			t.Errorf("%d pages and %d secrets, want 0 and 100", lists, gets)
		}
	}
	const missing = "the identity may not do secrets/list; add it to the vault's access policy"
	if got := strings.Count(n.Output(), missing); got != 1 {
		t.Errorf("%d lines of the log with %q, want 1:\n%s", got, missing, n.Output())
	}
}

// After a leak every value is read, also if lists have shown since then that it has not changed.
func TestRefreshAfterReadsWhatWasListed(t *testing.T) {
	t.Parallel()
	l := newLeak(t, "--default-change-detection=list")
	for _, name := range []string{"a", "b"} {
		l.Vault.SetSecret(name, "leaked", devcloud.SecretOptions{Created: time.Now().Add(-time.Hour)})
	}
	v := l.pod("pod", "objects", "[{secret: a}, {secret: b}]")
	l.MustPublish(t, v)
	if lists, gets := refreshes(t, l.Node, v); lists != 1 || gets != 0 {
		t.Errorf("%d pages and %d secrets, want 1 and 0", lists, gets)
	}
	l.Cloud.ResetCounts()
	l.refreshAll(t)
	l.isBefore(t, 1)
	l.MustPublish(t, v)
	if got := l.requests(); got != 2 {
		t.Errorf("%d requests, want 2", got)
	}
	l.isBefore(t, 0)
}
