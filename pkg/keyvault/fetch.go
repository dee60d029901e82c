package keyvault

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unique"

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/cache"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/login"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/vault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// objectBytes is what an object that a list has named takes until its volume is there, beside its files: measured and
// rounded up.
const objectBytes = 1 << 10

// identity is who may see the same values: a login and, where the policy asks for it, whose tokens the login has.
type identity struct {
	login.Key
	principal volume.Principal
}

// sameIdentity says whether a cache key is that of an identity, in whatever tenant and whoever its tokens belong to.
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
	principal *volume.Principal // that the policy has permitted; nil where that does not matter
	demand    cache.Demand
	vaults    []string
	bytes     atomic.Int64 // of the files so far
	files     atomic.Int64
}

// Fetch reads every object of the request and gives the volume's complete content, or the first error in the order of
// the request's objects, which is one of the sentinel errors of package volume or, with errors.Is, that of ctx.
//
// Objects of one vault, kind, name and version are read once, and not at all where the cache has them fresh enough, see
// package cache. A volume counts as mounted until [Client.Forget].
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
	began := c.now()
	lists, objects, err := f.expand(ctx)
	if err != nil {
		return volume.Content{}, err
	}
	reads, outputs := plan(objects)
	if err := f.run(ctx, reads); err != nil {
		return volume.Content{}, err
	}
	content := volume.Content{Folders: r.Folders}
	content.Files, err = filesOf(r.Folders, objects, outputs)
	if err != nil {
		return volume.Content{}, err
	}
	reads = append(lists, reads...)
	content.Fetched, content.Outage = ageOf(reads, r.Refresh)
	if content.Fetched.IsZero() { // there is nothing that ages
		content.Fetched = began
	}
	c.hold(f, reads)
	return content, nil
}

func (c *Client) newFetch(r volume.Request) *fetch {
	f := &fetch{
		Client: c, Request: r, key: c.logins.KeyOf(r), owner: c.logins.OwnerOf(r),
		demand: cache.Demand{Refresh: r.Refresh, Interval: r.RotationInterval, Since: c.volumes.newest(r.Volume)},
	}
	f.identity = unique.Make(identity{Key: f.key})
	for _, object := range r.Objects {
		if !slices.Contains(f.vaults, object.Vault) {
			f.vaults = append(f.vaults, object.Vault)
		}
	}
	return f
}

// permit lets the policy judge the identity that answers, where it wants to. From then on the fetch is about that identity
// alone: what the cache has was read by it, and so is what is fetched. A login of the node's metadata service that has had
// a token stays with its identity, also when the service cannot be reached.
func (f *fetch) permit(ctx context.Context) error {
	if f.Permit == nil || len(f.Objects) == 0 {
		return nil
	}
	who := volume.Principal{ClientID: f.Identity.ClientID} // who has its secret is nobody else
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
		who, _ = l.Principal()
	}
	if err := f.Permit(who); err != nil {
		return err
	}
	f.principal, f.identity = &who, unique.Make(identity{f.key, who})
	return nil
}

// expand replaces every selection by the objects that it stands for now. They are optional: what is deleted or disabled
// between the list and the read is left out.
func (f *fetch) expand(ctx context.Context) (lists []*read, objects []volume.Object, err error) {
	for i, object := range f.Objects {
		if object.Kind == volume.KindSelection {
			lists = append(lists, &read{request: vault.RequestOf(object), objects: []*volume.Object{&f.Objects[i]}})
		}
	}
	if len(lists) == 0 {
		return nil, f.Objects, nil
	}
	if err := f.run(ctx, lists); err != nil {
		return nil, nil, err
	}
	next := 0
	for _, object := range f.Objects {
		if object.Kind != volume.KindSelection {
			objects = append(objects, object)
			continue
		}
		names := lists[next].names
		next++
		if err := f.Limits.Check(0, len(objects)+len(names)); err != nil {
			return nil, nil, err
		}
		if err := f.reserve(ctx, int64(len(names))*objectBytes); err != nil {
			return nil, nil, err
		}
		for _, name := range names {
			selected := object.Selection.Each(name)
			selected.Optional = true
			objects = append(objects, selected)
		}
	}
	return lists, objects, nil
}

// filesOf puts the files of all objects together, in the order of their paths. Where two objects write the same one and
// may, the later wins.
func filesOf(folders []string, objects []volume.Object, outputs []output) ([]volume.File, error) {
	tree := volume.NewTree(folders)
	byPath := make(map[string]volume.File, len(objects))
	for i, object := range objects {
		o := outputs[i]
		if o.read.absent {
			continue // only for optional objects, else run would have failed
		}
		for _, file := range o.read.files[o.index] {
			if err := tree.Add(file.Path, object); err != nil {
				return nil, err
			}
			byPath[file.Path] = file
		}
	}
	files := slices.AppendSeq(make([]volume.File, 0, len(byPath)), maps.Values(byPath))
	slices.SortFunc(files, func(a, b volume.File) int { return strings.Compare(a.Path, b.Path) })
	return files, nil
}

// ageOf gives when the oldest was read, and the first outage. In a refresh pinned versions have no age.
func ageOf(reads []*read, refresh bool) (oldest time.Time, outage error) {
	for _, r := range reads {
		ages := !refresh || r.request.Version == ""
		if ages && (oldest.IsZero() || r.at.Before(oldest)) {
			oldest = r.at
		}
		if outage == nil {
			outage = r.outage
		}
	}
	return oldest, outage
}
