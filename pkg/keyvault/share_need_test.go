package keyvault_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Objects that refreshes never or seldom read leave the share of the node to the others.
func TestObjectsThatAreSeldomRead(t *testing.T) {
	t.Parallel()
	const version, interval = "9d90276b377b4d9ea10763c153a2f015", time.Minute
	public, err := azure.CloudByName("AzurePublicCloud", "", "")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		version  string
		interval time.Duration
	}{
		"with a version":      {version, interval},
		"without an interval": {"", 0},
		"with a long one":     {"", 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client, err := keyvault.New(keyvault.Options{
					Cloud: public, Credential: givenToken{}, Transport: &smallVault{allowed: 10}, Random: func() float64 { return .5 },
				})
				if err != nil {
					t.Fatal(err)
				}
				others, few := volumeOf(t, client, "others", 200, test.version, test.interval), volumeOf(t, client, "few", 5, "", interval)
				mountLimited(t, others)
				mountLimited(t, few)
				for i := range 10 {
					<-time.After(75 * time.Second)
					if test.interval == interval {
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

// volumeOf returns what fetches a volume as the kubelet does.
func volumeOf(t *testing.T, client *keyvault.Client, id string, objects int, version string, interval time.Duration) func(bool) (volume.Content, error) {
	r := request(volume.Identity{Kind: volume.Managed}, nil)
	r.Volume, r.RotationInterval, r.Limits = id, interval, volume.Limits{Files: 1000, Bytes: 1 << 20}
	for i := range objects {
		object := secret(fmt.Sprintf("%s-%d", id, i))
		object.Version = version
		r.Objects = append(r.Objects, object)
	}
	return func(refresh bool) (volume.Content, error) {
		ctx, cancel := context.WithTimeout(t.Context(), r.Timeout)
		defer cancel()
		r.Refresh = refresh
		return client.Fetch(ctx, r)
	}
}
