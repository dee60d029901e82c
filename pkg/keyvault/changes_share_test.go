package keyvault_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// listedVault is a small vault whose secrets have times and a list. It records what it has answered.
type listedVault struct {
	smallVault
	mu       sync.Mutex
	answered []string // the paths
}

func (v *listedVault) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := v.smallVault.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.answered = append(v.answered, req.URL.Path)
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	body = bytes.Replace(body, []byte("{"), []byte(`{"attributes":{"created":1,"updated":1},`), 1)
	if req.URL.Path == "/secrets" {
		body = []byte(`{"value":[],"nextLink":null}`)
	}
	resp.Header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return resp, nil
}

// The list of a refresh waits for a vault that throttles as its reads do: behind the first mounts.
func TestMountsGoBeforeLists(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		public, err := azure.CloudByName("AzurePublicCloud", "", "")
		if err != nil {
			t.Fatal(err)
		}
		vault := &listedVault{smallVault: smallVault{allowed: 10, value: "v"}}
		client, err := keyvault.New(keyvault.Options{Cloud: public, Credential: givenToken{}, Transport: vault, Random: func() float64 { return .5 }})
		if err != nil {
			t.Fatal(err)
		}
		fetch := func(id string, refresh bool, names ...string) {
			var objects []volume.Object
			for _, name := range names {
				objects = append(objects, secret(name))
			}
			r := lists(request(volume.Identity{Kind: volume.Managed}, objects))
			r.Volume, r.RotationInterval, r.Refresh = id, time.Minute, refresh
			for range 100 {
				_, err := client.Fetch(t.Context(), r)
				if err == nil || refresh {
					return
				}
				<-time.After(time.Second)
			}
			t.Errorf("%s is not mounted", id)
		}
		fetch("listing", false, "a", "b", "c", "d")
		var calls sync.WaitGroup
		mounts := func(prefix string, n int) {
			for i := range n {
				name := fmt.Sprint(prefix, i)
				calls.Go(func() { fetch(name, false, name) })
			}
			synctest.Wait()
		}
		mounts("limiting-", 30)
		calls.Wait()
		<-time.After(150 * time.Second)
		mounts("earlier-", 20)
		calls.Go(func() { fetch("listing", true, "a", "b", "c", "d") })
		synctest.Wait()
		mounts("later-", 3)
		calls.Wait()
		<-time.After(2 * time.Minute) // the list goes on without the refresh
		vault.mu.Lock()
		defer vault.mu.Unlock()
		list := slices.Index(vault.answered, "/secrets")
		last := -1
		for i, path := range vault.answered {
			if strings.HasPrefix(path, "/secrets/later-") {
				last = i
			}
		}
		if list < last {
			t.Errorf("the list is answered before a mount: %v", vault.answered)
		}
		if list < 0 {
			t.Errorf("no list: %v", vault.answered)
		}
	})
}
