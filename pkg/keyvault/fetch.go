package keyvault

import (
	"context"
	"slices"
	"time"
	"unique"

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/cache"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/files"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/login"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/vault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// objectBytes is the memory of a listed object until its volume is complete, without its files: measured and rounded
// up.
const objectBytes = 1 << 10

// identity decides who shares cached values: a login and, where the policy checks it, the principal of its tokens.
type identity struct {
	login.Key
	principal volume.Principal
}

// sameIdentity reports whether a cache key is of an identity, in any tenant and with any principal.
func sameIdentity(of any, key login.Key) bool {
	handle, ok := of.(unique.Handle[identity])
	return ok && handle.Value().InTenant("") == key.InTenant("")
}

// fetch is one call of [Client.Fetch].
type fetch struct {
	*Client
	volume.Request
	key       login.Key
	owner     login.Owner
	identity  unique.Handle[identity]
	principal *volume.Principal // that the policy has permitted; nil where that is not checked
	demand    cache.Demand
	began     time.Time
	vaults    []string
	shares    map[string]share // of vaults that limit the requests of the node
	lists     []*read          // that have ended
	set       *files.Set
}

// Fetch reads every object of the request and returns the volume's complete content, or the first error in the order
// of the objects. The error is a sentinel error of package volume or, with errors.Is, the error of ctx.
//
// Objects with the same vault, kind, name and version are read once, or taken from the cache, see package cache. A
// volume counts as mounted until [Client.Forget].
func (c *Client) Fetch(ctx context.Context, r volume.Request) (volume.Content, error) {
	r, err := c.logins.Identify(r)
	if err != nil {
		return volume.Content{}, err
	}
	for _, object := range r.Objects {
		if err := vault.Check(c.cloud, object); err != nil {
			return volume.Content{}, err
		}
	}
	f := c.newFetch(r)
	c.vaults.Use(f.vaults)
	defer c.vaults.Release(f.vaults)
	if err := f.permit(ctx); err != nil {
		return volume.Content{}, err
	}
	lists, objects, err := f.expand(ctx)
	if err != nil {
		return volume.Content{}, err
	}
	f.lists = lists
	reads := plan(objects)
	f.set = files.New(r, objects, c.decoders)
	if err := f.run(ctx, reads); err != nil {
		return volume.Content{}, err
	}
	reads = append(lists, reads...)
	current, read, outage := ageOf(reads, r.Refresh)
	if outage == nil {
		outage = f.late(ctx, reads)
	}
	if current.IsZero() { // no object has an age
		current, read = f.began, f.began
	}
	content, err := f.set.Content(ctx, current)
	if err != nil {
		return volume.Content{}, err
	}
	content.Read, content.Outage = read, outage
	c.hold(f, reads)
	return content, nil
}

func (c *Client) newFetch(r volume.Request) *fetch {
	f := &fetch{
		Client: c, Request: r, began: c.now(), key: c.logins.KeyOf(r), owner: c.logins.OwnerOf(r),
		demand: cache.Demand{
			Refresh: r.Refresh, Interval: r.RotationInterval, NotBefore: r.NotBefore, Listed: r.ChangeDetection == volume.DetectByListing,
		},
	}
	f.vaults = r.Vaults()
	f.shares = c.sharesOf(f.vaults)
	if !r.Refresh && r.Volume != "" {
		keep := time.Duration(0)
		if len(f.shares) > 0 {
			keep = cache.LateTime
		}
		f.demand.Begun = c.volumes.Begin(r.Volume, c.now(), keep)
	}
	if !r.Poll {
		f.demand.Since = c.volumes.Newest(r.Volume)
	}
	f.identity = unique.Make(identity{Key: f.key})
	return f
}

// permit asks the policy about the identity that logs in, if there is a policy for it. The rest of the fetch is bound
// to that identity: cached values must be of it, and so must new ones. A login of the metadata service that has had a
// token keeps its identity, even if the service cannot be reached.
func (f *fetch) permit(ctx context.Context) error {
	if f.Permit == nil || len(f.Objects) == 0 {
		return nil
	}
	principal := volume.Principal{ClientID: f.Identity.ClientID} // its secret proves it
	if login.KindOf(f.Identity) == login.ByMetadata {
		l, err := f.logins.Of(f.Request, "")
		if err == nil {
			if _, known := l.Principal(); !known {
				err = token(ctx, l)
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

// expand replaces each selection by the objects that match it now, and each history by the versions that there are now.
// Selected objects are optional: an object that is deleted or disabled between the list and the read is left out.
func (f *fetch) expand(ctx context.Context) (lists []*read, objects []volume.Object, err error) {
	for i, object := range f.Objects {
		if object.IsList() {
			lists = append(lists, &read{request: vault.RequestOf(object), objects: []*volume.Object{&f.Objects[i]}})
		}
	}
	if len(lists) == 0 {
		return nil, f.Objects, nil
	}
	if err := f.run(ctx, lists); err != nil {
		return nil, nil, err
	}
	next, entries := 0, 0
	for _, object := range f.Objects {
		if !object.IsList() {
			objects = append(objects, object)
			if object.In != nil {
				entries++
			}
			continue
		}
		names := lists[next].names
		next++
		if object.In != nil {
			names = slices.Sorted(slices.Values(names)) // so that the file does not depend on the order of the list
			entries += len(names)
			if entries > volume.MaxEntries {
				return nil, nil, volume.Errorf(volume.ErrTooLarge, "%s selects too many secrets, at most %d can be the entries of files; "+
					"select fewer, by prefix or tags", object.Source, volume.MaxEntries)
			}
		} else if err := f.Limits.Check(0, len(objects)-entries+len(names)); err != nil {
			return nil, nil, err
		}
		if err := f.reserve(ctx, int64(len(names))*objectBytes); err != nil {
			return nil, nil, err
		}
		for i, name := range names {
			if object.History != nil {
				objects = append(objects, object.History.Each(i, name))
				continue
			}
			selected := object.Selection.Each(name)
			selected.Optional = true
			objects = append(objects, selected)
		}
	}
	return lists, objects, nil
}

// ageOf returns when the oldest object was last known to be current, when the oldest was read, and the first outage. In a
// refresh, pinned versions have no age.
func ageOf(reads []*read, refresh bool) (current, read time.Time, outage error) {
	for _, r := range reads {
		if !refresh || r.request.Version == "" {
			current, read = oldest(current, r.at), oldest(read, r.read)
		}
		if outage == nil {
			outage = r.outage
		}
	}
	return current, read, outage
}

func oldest(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}
