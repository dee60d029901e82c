package keyvault_test

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
	"weak"

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/cache"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// A list that takes longer than a call at a vault that throttles goes on between the calls, so that the mount ends. A refresh does not
// wait for it.
func TestALongListAtAVaultThatThrottles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		vault := &smallListed{smallVault: &smallVault{allowed: 5}, objects: 1000} // 40 pages
		client := limitedClient(t, vault)
		r := request(volume.Identity{Kind: volume.Managed}, []volume.Object{selection(volume.Selection{Prefix: "same-12"})})
		r.Volume, r.RotationInterval, r.Limits = "1", 2*time.Minute, volume.Limits{Files: 1000, Bytes: 1 << 20}
		fetch := func(refresh bool) (volume.Content, error) {
			ctx, cancel := context.WithTimeout(t.Context(), r.Timeout)
			defer cancel()
			r.Refresh = refresh
			return client.Fetch(ctx, r)
		}
		began := time.Now()
		_, err := fetch(false)
		for ; err != nil && time.Since(began) < 30*time.Minute; _, err = fetch(false) {
			<-time.After(122 * time.Second) // the kubelet's longest pause
		}
		if err != nil {
			t.Fatalf("not mounted after %v and %d answers: %v", time.Since(began), vault.read(), err)
		}
		for i := range 20 {
			<-time.After(75 * time.Second)
			content, err := fetch(true)
			if err != nil || len(content.Files) != 11 || time.Since(content.Fetched) > 30*time.Minute {
				t.Errorf("refresh %d: %d files, %v old: %v", i, len(content.Files), time.Since(content.Fetched), err)
			}
		}
		<-time.After(cache.LongTimeout) // of a list that goes on
	})
}

// A list that goes on does not hold the objects of its request: their memory is counted no longer.
func TestAListThatGoesOnHoldsNoObjects(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		vault := &smallListed{smallVault: &smallVault{allowed: 5}, objects: 1000}
		client := limitedClient(t, vault)
		fetch := func(timeout time.Duration) weak.Pointer[byte] {
			path := strings.Repeat("a", 200)
			named := secret("same-1")
			named.Outputs[0].Path = path
			r := request(volume.Identity{Kind: volume.Managed}, []volume.Object{selection(volume.Selection{Prefix: "same-12"}), named})
			r.Limits = volume.Limits{Files: 1000, Bytes: 1 << 20}
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			if _, err := client.Fetch(ctx, r); err == nil {
				t.Error("the list has ended")
			}
			return weak.Make(unsafe.StringData(path))
		}
		fetch(time.Minute) // the vault throttles from now on
		collected(t, "the objects of a list that goes on", fetch(10*time.Second))
		before := vault.read()
		<-time.After(time.Minute)
		if after := vault.read(); after == before {
			t.Error("the list does not go on")
		}
		<-time.After(cache.LongTimeout)
		runtime.KeepAlive(client)
	})
}
