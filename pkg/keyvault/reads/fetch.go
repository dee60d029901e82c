package reads

import (
	"context"
	"slices"
	"time"
	"unique"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/cache"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/login"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Fetch is the reading of all objects of one request.
type Fetch struct {
	*Client
	volume.Request

	Owner  login.Owner
	Demand cache.Demand // the caller sets Begun and Since

	key       login.Key
	identity  unique.Handle[identity]
	principal *volume.Principal // that the policy has permitted; nil where that is not checked
	began     time.Time
	readUntil time.Time        // by a refresh that a vault limits; zero before its first read
	shares    map[string]share // of vaults that limit the requests of the node
	lists     []*read          // of the request
	reads     []*read          // of the objects
	take      Take
}

// Take uses a value for the objects that need it, as soon as it was read. Reads end concurrently. An error ends the fetch.
type Take func(ctx context.Context, objects []*volume.Object, v *Value) error

// Begin begins a fetch. The vaults are those of the request.
func (c *Client) Begin(r volume.Request, vaults []string) *Fetch {
	key := c.logins.KeyOf(r)
	return &Fetch{
		Client: c, Request: r, began: c.now(), Owner: c.logins.OwnerOf(r), key: key, identity: unique.Make(identity{Key: key}),
		shares: c.sharesOf(vaults, r.RotationInterval),
		Demand: cache.Demand{
			Refresh: r.Refresh, Interval: r.RotationInterval, NotBefore: r.NotBefore, Listed: r.ChangeDetection == volume.DetectByListing,
		},
	}
}

// Limited reports whether a vault of the request limits the requests of the node.
func (f *Fetch) Limited() bool { return len(f.shares) > 0 }

// CheckPolicy asks the policy about the identity that logs in, if there is a policy for it. The rest of the fetch is bound
// to that identity: cached values must be of it, and so must new ones. A login of the metadata service that has had a
// token keeps its identity, even if the service cannot be reached.
func (f *Fetch) CheckPolicy(ctx context.Context) error {
	if f.Permit == nil || len(f.Objects) == 0 {
		return nil
	}
	principal := volume.Principal{ClientID: f.Identity.ClientID} // its secret proves it
	if login.KindOf(f.Identity) == login.ByMetadata {
		l, err := f.logins.Of(f.Request, "")
		if err == nil {
			if _, known := l.Principal(); !known {
				_, err = l.GetToken(ctx, policy.TokenRequestOptions{})
			}
		}
		if err != nil {
			return f.explain(ctx, f.Objects[0], f.loginFailure(l, err, "", ""))
		}
		principal, _ = l.Principal()
	}
	if err := f.Permit(principal); err != nil {
		return err
	}
	f.principal, f.identity = &principal, unique.Make(identity{f.key, principal})
	return nil
}

// Ages are how old the values are that a fetch has read.
type Ages struct {
	Fetched time.Time // when the oldest was last known to be current; in a refresh, pinned versions have no age
	Read    time.Time // when the oldest of these was read
	Newest  time.Time // when the newest of all was last known to be current
	Outage  error     // why some are older than they should be
}

// Ages returns the ages of what was read.
func (f *Fetch) Ages(ctx context.Context) (ages Ages) {
	all := slices.Concat(f.lists, f.reads)
	for _, r := range all {
		if !f.Refresh || r.request.Version == "" {
			ages.Fetched, ages.Read = oldest(ages.Fetched, r.at), oldest(ages.Read, r.read)
		}
		if ages.Outage == nil {
			ages.Outage = r.outage
		}
		if r.at.After(ages.Newest) {
			ages.Newest = r.at
		}
	}
	if ages.Outage == nil {
		ages.Outage = f.late(ctx, all)
	}
	if ages.Fetched.IsZero() { // no object has an age
		ages.Fetched, ages.Read = f.began, f.began
	}
	return ages
}

func oldest(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}
