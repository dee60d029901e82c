package daemon_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

func TestRotation(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	n.Vault.SetSecret("db-password", "first", devcloud.SecretOptions{})
	v := workload("secrets", "db-password")
	n.MustPublish(t, v)
	path := filepath.Join(n.Target(v), "secrets/db-password")
	n.Vault.SetSecret("db-password", "second", devcloud.SecretOptions{})

	n.MustPublish(t, v)
	if got := node.ReadFile(t, path); got != "first" {
		t.Errorf("inside the interval the pod reads %q, want %q", got, "first")
	}
	n.Age(t, v, time.Minute) // pkg/driver tests the exact second, with a fake clock
	n.MustPublish(t, v)
	if got := node.ReadFile(t, path); got != "first" {
		t.Errorf("before the interval of 2m is over the pod reads %q, want %q", got, "first")
	}
	n.Age(t, v, 121*time.Second)
	n.MustPublish(t, v)
	if got := node.ReadFile(t, path); got != "second" {
		t.Errorf("after the interval the pod reads %q, want %q", got, "second")
	}
	before := sets(t, n.Target(v))
	n.Age(t, v, 121*time.Second)
	n.MustPublish(t, v)
	if after := sets(t, n.Target(v)); len(after) != 1 || after[0] != before[0] {
		t.Errorf("an unchanged vault changed the set: %v, then %v", before, after)
	}
	if all := mounts(t, n); len(all) != 1 {
		t.Errorf("%d mounts after rotations, want 1", len(all))
	}
}

// sets are the data folders of a volume.
func sets(t *testing.T, target string) []string {
	t.Helper()
	entries, err := os.ReadDir(target)
	if err != nil {
		t.Fatal(err)
	}
	var sets []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") && e.IsDir() {
			sets = append(sets, e.Name())
		}
	}
	return sets
}

func TestAVolumesOwnInterval(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	n.Vault.SetSecret("db-password", "first", devcloud.SecretOptions{})
	never, often := workload("secrets", "db-password", "rotationInterval", "0"), workload("secrets", "db-password", "rotationInterval", "30s")
	never.Name, often.Name = "never", "often"
	n.MustPublish(t, never)
	n.MustPublish(t, often)
	n.Vault.SetSecret("db-password", "second", devcloud.SecretOptions{})
	n.Age(t, never, 1000*time.Hour)
	n.Age(t, often, 31*time.Second)
	n.MustPublish(t, never)
	n.MustPublish(t, often)
	if got := node.ReadFile(t, filepath.Join(n.Target(never), "secrets/db-password")); got != "first" {
		t.Errorf("with interval 0 the pod reads %q", got)
	}
	if got := node.ReadFile(t, filepath.Join(n.Target(often), "secrets/db-password")); got != "second" {
		t.Errorf("with interval 30s the pod reads %q after 31s", got)
	}
}

func TestAClockSteppedBackDoesNotStopRotation(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	n.Vault.SetSecret("db-password", "first", devcloud.SecretOptions{})
	v := workload("secrets", "db-password")
	n.MustPublish(t, v)
	n.Vault.SetSecret("db-password", "second", devcloud.SecretOptions{})
	n.Age(t, v, -24*time.Hour) // fetched tomorrow, by a clock that was wrong
	n.MustPublish(t, v)
	if got := node.ReadFile(t, filepath.Join(n.Target(v), "secrets/db-password")); got != "second" {
		t.Errorf("the pod reads %q", got)
	}
}

func TestAFullVolumeRotates(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{Flags: []string{"--max-volume-bytes=2Mi"}})
	// 84 secrets of up to 25 kB, the limit of Key Vault, are exactly 2 MiB.
	var names []string
	left := 2 << 20
	for i := 0; left > 0; i++ {
		size := min(left, 25_000)
		left -= size
		name := "big-" + strings.Repeat("x", i+1)
		names = append(names, name)
		n.Vault.SetSecret(name, strings.Repeat("a", size), devcloud.SecretOptions{})
	}
	v := workload("secrets", strings.Join(names, ";"))
	n.MustPublish(t, v)
	for _, fill := range []string{"b", "c", "d"} {
		left = 2 << 20
		for _, name := range names {
			size := min(left, 25_000)
			left -= size
			n.Vault.SetSecret(name, strings.Repeat(fill, size), devcloud.SecretOptions{})
		}
		n.Age(t, v, 3*time.Minute)
		n.MustPublish(t, v)
		for _, name := range names {
			if got := node.ReadFile(t, filepath.Join(n.Target(v), "secrets", name)); strings.Trim(got, fill) != "" {
				t.Fatalf("%s was not rotated to %q", name, fill)
			}
		}
	}
	n.Vault.SetSecret("one-more", "x", devcloud.SecretOptions{})
	over := workload("secrets", strings.Join(append(names, "one-more"), ";"))
	over.Name = "over"
	err := n.Publish(t.Context(), over)
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one byte more: %v, want ResourceExhausted", err)
	}
}

// A failed refresh is not an error while the set is young, and never removes the files.
func TestAFailedRefreshKeepsTheFiles(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	n.Vault.SetSecret("db-password", "first", devcloud.SecretOptions{})
	v := workload("secrets", "db-password")
	n.MustPublish(t, v)
	path := filepath.Join(n.Target(v), "secrets/db-password")
	if err := n.Vault.Delete(devcloud.Secrets, "db-password"); err != nil {
		t.Fatal(err)
	}
	const text = `secrets[0]: secret "db-password" of https://shop.vault.azure.net as workload 11111111-2222-3333-4444-555555555555: ` +
		"HTTP 404 SecretNotFound: there is no such object; check the name, or recover it if it was deleted"

	n.Age(t, v, 5*time.Minute) // 3 intervals of 2m are 6m
	if err := n.Publish(t.Context(), v); err != nil {
		t.Errorf("a refresh that failed before three intervals were over: %v, want OK", err)
	}
	n.Age(t, v, 6*time.Minute+time.Second)
	err := n.Publish(t.Context(), v)
	if status.Code(err) != codes.Unavailable || status.Convert(err).Message() != text {
		t.Errorf("after three intervals: %v, want Unavailable: %s", err, text)
	}
	fresh := workload("secrets", "db-password")
	fresh.Name = "fresh"
	if first := n.Publish(t.Context(), fresh); status.Code(first) != codes.NotFound || status.Convert(first).Message() != text {
		t.Errorf("a first publish: %v, want NotFound: %s", first, text)
	}
	if got := node.ReadFile(t, path); got != "first" {
		t.Errorf("the pod reads %q", got)
	}
	if condition := health(t, n, v.ID(), n.Target(v)); condition != text {
		t.Errorf("the volume's health is %q", condition)
	}
	n.Vault.SetSecret("db-password", "second", devcloud.SecretOptions{})
	publishAgain(t, n, v)
	if got := node.ReadFile(t, path); got != "second" {
		t.Errorf("after the cause was repaired the pod reads %q", got)
	}
	if condition := health(t, n, v.ID(), n.Target(v)); condition != "" {
		t.Errorf("the volume's health is %q after it recovered", condition)
	}
}

// publishAgain repeats the call until it succeeds, as the kubelet does: for 2 s after a refusal the daemon answers the same.
func publishAgain(t *testing.T, n *node.Node, v kubelet.Volume) {
	t.Helper()
	suite.Eventually(t, "a publish succeeds after the cause was repaired", func() bool { return n.Publish(t.Context(), v) == nil })
}

// health is the messages of a volume's health; empty for a healthy volume.
func health(t *testing.T, n *node.Node, id, target string) string {
	t.Helper()
	response, err := n.Driver.NodeGetVolumeHealth(context.WithoutCancel(t.Context()), &csi.NodeGetVolumeHealthRequest{VolumeId: id, VolumePublishPath: target})
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, entry := range response.GetVolumeHealth().GetHealthStatuses() {
		texts = append(texts, entry.GetMessage())
	}
	return strings.Join(texts, "; ")
}
