package reads

import (
	"context"
	"slices"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/cache"
)

// early is the part of its turn after which an object may be read again. It is less than the whole, so that a share that has become smaller
// does not leave the vault idle.
const early = .75

// shortestRefresh and longestRefresh are how long a refresh goes on to send requests to a vault that limits them. What is left waits for the
// next call. The time is random: the kubelet repeats a call that answers Unavailable after exactly 122 s, so the calls of nodes that were
// refused together would come together again, and exceed the limit again.
const shortestRefresh, longestRefresh = 10 * time.Second, 30 * time.Second

// halfCall is half the mean time between two calls of the kubelet for a volume. An object is read at the call that is nearest to its
// time.
const halfCall = 37 * time.Second

// share is what this node may ask of a vault that has refused requests with 429, see the pace of package azure.
type share struct {
	rate float64       // requests a second
	late time.Duration // the age below which an object is not read again
}

// sharesOf returns the shares of a volume's refresh in vaults that limit the requests of this node. If the refreshes of all volumes need
// more than the node may send, all intervals become longer by the same factor.
func (c *Client) sharesOf(vaults []string, interval time.Duration) (shares map[string]share) {
	for _, vault := range vaults {
		rate := c.vaults.Rate(vault)
		if rate == 0 {
			continue
		}
		if shares == nil {
			shares = map[string]share{}
		}
		seconds := min(early*c.cache.Need(vault)/rate*interval.Seconds(), cache.LateTime.Seconds())
		shares[vault] = share{rate, time.Duration(seconds*float64(time.Second)) - halfCall}
	}
	return shares
}

// oldestFirst orders the reads of a refresh by the age of what is known, so that no object is always the one that waits.
func (f *Fetch) oldestFirst(reads []*read) {
	if !f.Refresh || len(f.shares) == 0 {
		return
	}
	known := make(map[*read]time.Time, len(reads))
	for _, r := range reads {
		if last, _ := f.cache.Late(f.cacheKey(r), f.demandOf(r)); !r.changed {
			known[r] = last.At
		}
	}
	slices.SortStableFunc(reads, func(a, b *read) int { return known[a].Compare(known[b]) })
}

// lowestRate is that of the vault with the smallest share; 0 means that there is no limit.
func (f *Fetch) lowestRate() (rate float64) {
	for _, s := range f.shares {
		if rate == 0 || s.rate < rate {
			rate = s.rate
		}
	}
	return rate
}

// concurrency is how many objects of the volume are read at the same time. More would only wait.
func (f *Fetch) concurrency() int {
	if rate := f.lowestRate(); rate > 0 {
		return min(perVolume, int(rate)+1)
	}
	return perVolume
}

// mountTimeout bounds a first mount that cannot read everything in its time. The kubelet's pauses between its calls are the same on all
// nodes, and double. If nodes that started together also ended their calls together, the vault would be idle in the pauses. So each
// call ends at a random time. What it has read is kept for the next call.
func (f *Fetch) mountTimeout(ctx context.Context, reads int) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	rate := f.lowestRate()
	if f.Refresh || !ok || rate == 0 {
		return ctx, func() {}
	}
	left := time.Until(deadline)
	if float64(reads)/rate < left.Seconds() {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, left/6+time.Duration(f.random()*float64(left*5/6)))
}

// requestContext marks the requests of a refresh, which first mounts overtake.
func (f *Fetch) requestContext(ctx context.Context, r *read) context.Context {
	if !f.Refresh {
		return ctx
	}
	if r.reserved {
		ctx = azure.WithReserved(ctx)
	}
	return azure.WithRefresh(ctx)
}

// untilLater returns the value that an object keeps if a refresh leaves it for a later call, because the node has used its share of the
// vault.
func (f *Fetch) untilLater(r *read) (last cache.Result[*Value], known bool) {
	if _, limited := f.shares[r.request.Vault]; !f.Refresh || !limited {
		return last, false
	}
	return f.cache.Late(f.cacheKey(r), f.demandOf(r))
}

// isLate reports whether an answer of that time is older than the interval because of the share of the node.
func (f *Fetch) isLate(r *read, at time.Time) bool {
	_, limited := f.shares[r.request.Vault]
	return limited && f.Refresh && f.RotationInterval > 0 && r.request.Version == "" && f.now().Sub(at) >= f.RotationInterval
}

// limitTime begins the time of a refresh that a vault limits, after the wait that spreads refreshes.
func (f *Fetch) limitTime() {
	if f.Refresh && f.Limited() && f.readUntil.IsZero() {
		f.readUntil = f.now().Add(shortestRefresh + time.Duration(f.random()*float64(longestRefresh-shortestRefresh)))
	}
}

// mayRefresh reports whether a refresh may send a request that could wait for a later call.
func (f *Fetch) mayRefresh(r *read) bool {
	return f.now().Before(f.readUntil) && f.vaults.Throttle(r.request.Vault).Reserve()
}

// late returns why objects of a refresh are older than the interval; nil if none is. The error is always about the same object, although
// others may be late each time.
func (f *Fetch) late(ctx context.Context, reads []*read) error {
	for _, r := range reads {
		if f.isLate(r, r.at) {
			first := slices.IndexFunc(reads, func(other *read) bool { return other.request.Vault == r.request.Vault })
			reason := f.vaults.Throttle(r.request.Vault).Reason()
			return f.explain(ctx, reads[first].object(), f.vaultFailure(reads[first].object(), reason, "", ""))
		}
	}
	return nil
}
