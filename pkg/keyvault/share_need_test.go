package keyvault_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/cache"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Objects that refreshes never or seldom read leave the share of the node to the others.
func TestObjectsThatAreSeldomRead(t *testing.T) {
	t.Parallel()
	const version, interval = "9d90276b377b4d9ea10763c153a2f015", time.Minute
	for name, test := range map[string]struct {
		version  string
		interval time.Duration
		gone     bool
	}{
		"with a version":      {version, interval, false},
		"without an interval": {"", 0, false},
		"with a long one":     {"", 24 * time.Hour, false},
		"that are gone":       {"", interval, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client := limitedClient(t, &smallVault{allowed: 10})
				others, few := volumeOf(t, client, "others", "other", 200, test.version, test.interval), volumeOf(t, client, "few", "few", 5, "", interval)
				mountLimited(t, others)
				mountLimited(t, few)
				if test.gone {
					client.Forget("others")
					<-time.After(interval + cache.CallTime)
				}
				for i := range 10 {
					<-time.After(75 * time.Second)
					if test.interval == interval && !test.gone {
						if _, err := others(true); err != nil {
							t.Fatal(err)
						}
					}
					content, err := few(true)
					if err != nil {
						t.Fatal(err)
					}
					if content.Outage != nil || time.Since(content.Fetched) > interval {
						t.Errorf("beside 200 objects %s, refresh %d: fetched %v ago: %v", name, i, time.Since(content.Fetched), content.Outage)
					}
				}
			})
		})
	}
}

// Volumes that refresh the same objects at the same time read as many as one volume: a request that several wait for takes one turn.
func TestVolumesTakeOneTurn(t *testing.T) {
	t.Parallel()
	readsOf := func(volumes int) (reads int) {
		synctest.Test(t, func(t *testing.T) {
			vault := &smallVault{allowed: 10}
			client := limitedClient(t, vault)
			var fetches []func(bool) (volume.Content, error)
			for i := range volumes {
				fetches = append(fetches, volumeOf(t, client, fmt.Sprint(i), "same", 200, "", time.Minute))
				mountLimited(t, fetches[i])
			}
			before := vault.read()
			for range 20 {
				<-time.After(75 * time.Second)
				var calls sync.WaitGroup
				for _, fetch := range fetches {
					calls.Go(func() {
						if _, err := fetch(true); err != nil {
							t.Error(err)
						}
					})
				}
				calls.Wait()
			}
			reads = vault.read() - before
		})
		return reads
	}
	if one, many := readsOf(1), readsOf(16); many < one*3/4 {
		t.Errorf("16 volumes read %d objects in the time in which one reads %d", many, one)
	}
}

// Optional objects that are absent wait for their turn as the others do: a refresh does not wait for them until it fails.
func TestAbsentObjectsWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		vault := &smallVault{allowed: 5}
		client := limitedClient(t, vault)
		const objects = 100
		fetch := volumeOf(t, client, "1", "absent", objects, "", time.Minute)
		mountLimited(t, fetch)
		before, late := vault.read(), 0
		for i := range 20 {
			<-time.After(75 * time.Second)
			content, err := fetch(true)
			if err != nil {
				t.Errorf("refresh %d: %v", i, err)
			}
			if content.Outage != nil {
				late++
			}
		}
		if reads := vault.read() - before; reads < objects || late == 0 {
			t.Errorf("%d reads of %d objects, %d refreshes are late", reads, objects, late)
		}
	})
}

func limitedClient(t *testing.T, vault http.RoundTripper) *keyvault.Client {
	t.Helper()
	public, err := azure.CloudByName("AzurePublicCloud", "", "")
	if err != nil {
		t.Fatal(err)
	}
	client, err := keyvault.New(keyvault.Options{
		Cloud: public, Credential: givenToken{}, Transport: vault, Random: func() float64 { return .5 }, MountMaxAge: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// volumeOf returns what fetches a volume as the kubelet does. The names of its objects begin with the prefix.
func volumeOf(
	t *testing.T, client *keyvault.Client, id, prefix string, objects int, version string, interval time.Duration, detection ...volume.ChangeDetection,
) func(refresh bool) (volume.Content, error) {
	r := request(volume.Identity{Kind: volume.Managed}, nil)
	r.Volume, r.RotationInterval, r.Limits = id, interval, volume.Limits{Files: 1000, Bytes: 1 << 20}
	for _, d := range detection {
		r.ChangeDetection = d
	}
	for i := range objects {
		object := secret(fmt.Sprintf("%s-%d", prefix, i))
		object.Version, object.Optional = version, prefix == "absent"
		r.Objects = append(r.Objects, object)
	}
	return func(refresh bool) (volume.Content, error) {
		ctx, cancel := context.WithTimeout(t.Context(), r.Timeout)
		defer cancel()
		r := r
		r.Refresh = refresh
		return client.Fetch(ctx, r)
	}
}
