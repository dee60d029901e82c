package devcloud_test

import (
	"context"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

// Nothing of a cloud runs after Close: no hanging request, no open tunnel, no listener. Not parallel, because it lists all
// goroutines of the process.
func TestCloseLeavesNothing(t *testing.T) {
	cloud, vault := newCloud(t, devcloud.Options{})
	client := cloud.HTTPClient()
	defer client.CloseIdleConnections()
	get(t, client, http.MethodGet, vault.URL()+"/secrets/a", nil)
	if !strings.Contains(goroutines(), "pkg/devcloud.(*Cloud).join") {
		t.Error("no tunnel in the stacks: this test would see nothing")
	}
	inject(t, cloud, devcloud.Fault{Action: devcloud.Hang})
	var asking sync.WaitGroup
	asking.Go(func() {
		r, _ := http.NewRequestWithContext(context.Background(), http.MethodPost, vault.URL()+"/secrets/a", nil)
		if resp, err := client.Do(r); err == nil {
			_ = resp.Body.Close()
		}
	})
	if err := cloud.Wait(t.Context(), devcloud.CountKey{Service: devcloud.ServiceVault}, 2); err != nil {
		t.Fatal(err)
	}
	cloud.Close()
	var stacks string
	defer func() {
		if t.Failed() {
			t.Logf("still running:\n%s", stacks)
		}
	}()
	// A handler that has told Close of its end is still in the stacks until it has returned.
	suite.Eventually(t, "nothing of the cloud runs", func() bool {
		stacks = goroutines()
		return !strings.Contains(stacks, "pkg/devcloud.(*")
	})
	asking.Wait()
}

func goroutines() string {
	buffer := make([]byte, 1<<20)
	return string(buffer[:runtime.Stack(buffer, true)])
}

// Clients read during concurrent changes; for the race detector.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	cloud, vault := newCloud(t, devcloud.Options{})
	vault.SetSecret("a", "x", devcloud.SecretOptions{Tags: map[string]string{"k": "v"}})
	client := defaultClient(t, cloud, vault)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 10 {
				if _, err := client.GetSecret(t.Context(), "a", "", nil); err != nil {
					t.Error(err)
				}
				if _, err := client.NewListSecretPropertiesPager(nil).NextPage(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 10 {
		if _, err := vault.Rotate(devcloud.Secrets, "a"); err != nil {
			t.Error(err)
		}
		version := vault.SetSecret("b", "y", devcloud.SecretOptions{})
		_ = vault.Disable(devcloud.Secrets, "b", version)
		inject(t, cloud, devcloud.Fault{Action: devcloud.Delay, Path: "/secrets/a", Times: 1})
		vault.Grant("other", devcloud.SecretsGet)
		cloud.Counts()
		cloud.Requests()
	}
	all.Wait()
	if n := cloud.Count(devcloud.CountKey{Service: devcloud.ServiceVault, Status: 200}); n != 80 {
		t.Errorf("%d answers", n)
	}
}
