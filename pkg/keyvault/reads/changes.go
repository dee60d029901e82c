package reads

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/cache"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/vault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// candidate is a read of a refresh whose last value may still be current.
type candidate struct {
	*read
	last    *Value
	entries int  // in the list
	same    bool // the last of them has the stamp of the last value
}

// changed lists what may still be current, answers the reads that the lists show to be unchanged, and returns the others in
// their order: what has changed, is not in the list, or must be read for another reason. A list that fails is no error: the
// objects are then read.
func (f *Fetch) changed(ctx context.Context, reads []*read) []*read {
	if !f.Refresh || !f.Demand.Listed {
		return reads
	}
	groups, order := f.candidates(reads)
	for _, request := range order {
		left := groups[request]
		for _, list := range f.lists { // a selection may have listed them
			if list.request.Vault == request.Vault && list.request.Interface == vault.List && request.Interface == vault.Secrets {
				left = f.keepUnchanged(ctx, left, list.names, list.stamps, list.at)
				left = slices.DeleteFunc(left, func(c *candidate) bool { return c.entries > 0 }) // have changed
			}
		}
		f.list(ctx, request, left)
	}
	return slices.DeleteFunc(slices.Clone(reads), func(r *read) bool { return !r.at.IsZero() })
}

// candidates returns the reads with a value that a list can confirm, by vault and interface, and these in their order.
func (f *Fetch) candidates(reads []*read) (groups map[vault.Request][]*candidate, order []vault.Request) {
	groups = map[vault.Request][]*candidate{}
	for _, r := range reads {
		if r.request.Version != "" || r.request.Interface != vault.Secrets && r.request.Interface != vault.Certificates {
			continue
		}
		last, ok := f.cache.Held(f.cacheKey(r), f.demandOf(r))
		if !ok || last.Stamp == (vault.Stamp{}) {
			continue
		}
		group := vault.Request{Vault: r.request.Vault, Interface: r.request.Interface}
		if groups[group] == nil {
			order = append(order, group)
		}
		groups[group] = append(groups[group], &candidate{read: r, last: last})
	}
	return groups, order
}

// keepUnchanged answers the reads that a list shows to be unchanged, and returns the others. An object that is listed twice may have
// changed between two pages.
func (f *Fetch) keepUnchanged(ctx context.Context, all []*candidate, names []string, stamps []vault.Stamp, at time.Time) (left []*candidate) {
	byName := make(map[string]*candidate, len(all))
	for _, c := range all {
		c.entries = 0
		byName[c.request.Name] = c
	}
	for i, name := range names {
		if c := byName[strings.ToLower(name)]; c != nil && i < len(stamps) {
			c.entries++
			c.same = stamps[i] == c.last.Stamp
		}
	}
	for _, c := range all {
		known, ok := cache.Result[*Value]{}, false
		if c.entries == 1 && c.same && f.proven(c.request.Vault) {
			demand := f.demandOf(c.read)
			if demand.Limited { // as the list
				demand.Since = time.Time{}
			}
			known, ok = f.cache.Keep(f.cacheKey(c.read), demand, c.last, at)
		}
		if !ok {
			c.changed = c.entries > 0
			left = append(left, c)
			continue
		}
		f.cache.Count(cache.Unchanged)
		c.err = f.accept(ctx, c.read, known)
	}
	return left
}

// list answers the reads that the list of a vault's secrets or certificates shows to be unchanged. The volumes of a node share
// a list like an object.
func (f *Fetch) list(ctx context.Context, of vault.Request, wanted []*candidate) {
	request, object := vault.ChangesOf(of.Vault, of.Interface)
	r := &read{request: request, objects: []*volume.Object{&object}}
	key := f.cacheKey(r)
	if r.pages = f.pages(of, len(wanted)); r.pages == 0 || !f.unlisted.allows(key, f.now()) {
		return
	}
	if last, ok := f.cache.Last(key); ok && last.saved.Load() < int64(last.Pages) {
		if _, current := f.cache.Find(key, f.demandOf(r)); !current {
			f.unlist(key, "the last list has cost more requests than it has saved")
			last.saved.Store(int64(last.Pages)) // so that it counts once
			return
		}
	}
	done, err := f.mayRead(ctx, of.Vault)
	if err != nil { // the reads will say so
		return
	}
	defer done()
	if !f.proven(of.Vault) && f.prove(ctx, r) != nil {
		return
	}
	result, _ := f.get(f.requestContext(ctx, r), r, azure.TryTimeout)
	switch {
	case result.Failure != nil && forbidden(result.Failure):
		if why := f.explain(ctx, object, result.Failure); f.unlisted.add(key, f.now(), why.Error()) {
			f.logger.Error(why, "changes are not listed; all objects are read")
		}
		return
	case result.Failure != nil:
		return
	case result.Value.Long:
		f.unlist(key, "the vault has more pages of them than this node looks for of them as this identity")
		return
	}
	left := f.keepUnchanged(ctx, wanted, result.Value.Names, result.Value.Stamps, result.At)
	if result.Value.saved.Add(int64(len(wanted)-len(left))) >= int64(result.Value.Pages) {
		f.unlisted.remove(key)
	}
}

// pages returns how many pages a list may have so that it costs less than reading each object: fewer than the objects that
// volumes of this node look for in it, with the same identity and at least as often. 0 means that the list costs more.
func (f *Fetch) pages(of vault.Request, wanted int) int {
	if wanted == 0 {
		return 0
	}
	all := f.cache.Rotating(f.RotationInterval, func(k cache.Key) bool {
		return k.Identity == any(f.identity) && k.Vault == of.Vault && k.Interface == of.Interface
	})
	return min(max(wanted, all)-1, vault.MaxChangePages)
}

// unlist stops listing for an hour, and logs why if that is new.
func (f *Fetch) unlist(key cache.Key, reason string) {
	if f.unlisted.add(key, f.now(), reason) {
		f.logger.Info("changes are not listed; all objects are read", "vault", key.Vault,
			"interface", strings.TrimPrefix(key.Interface, vault.Changes), "reason", reason)
	}
}

// forbidden reports whether a vault refuses because of a right, and not because of a login.
func forbidden(failure *cache.Failure) bool {
	answer, ok := errors.AsType[*azure.Answer](failure.Err)
	return ok && !answer.IsLogin() && answer.Status == http.StatusForbidden
}
