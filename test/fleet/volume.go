package fleet

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Interval is the rotationInterval of all volumes, the driver's default. Timeout is that of a publish.
const (
	Interval = 2 * time.Minute
	Timeout  = time.Minute

	firstCall, lastCall = 60 * time.Second, 90 * time.Second // between two calls of the kubelet for one volume
	firstRetry          = 500 * time.Millisecond             // after a failed mount; it doubles
	lastRetry           = 122 * time.Second

	tolerance = 3 * Interval // the age from which the driver answers Unavailable to a refresh
)

// fetcher is the client, of pkg/keyvault.
type fetcher interface {
	Fetch(context.Context, volume.Request) (volume.Content, error)
	Forget(volume string)
}

// record collects what the volumes of a fleet report. It is safe for concurrent use.
type record struct {
	mu sync.Mutex
	*Report
	changed time.Time // when the first object of each volume changes; zero if none does
}

// Volume does what the kubelet and the driver do about one volume: it mounts it until that succeeds, and then calls again every 60 to 90
// seconds, which fetches if the set is older than the interval.
type Volume struct {
	fetcher func() fetcher // of the node: an upgrade replaces it
	request volume.Request
	random  *rand.Rand
	record  *record

	fetched time.Time
	rotated bool
}

func (v *Volume) run(ctx context.Context, start, skew time.Duration) {
	if !sleep(ctx, start) {
		return
	}
	asked := time.Now()
	for wait := firstRetry; !v.publish(ctx, false); wait = min(2*wait, lastRetry) {
		v.fetcher().Forget(v.request.Volume)
		if !sleep(ctx, wait) {
			return
		}
	}
	v.record.mu.Lock()
	v.record.Mounts = append(v.record.Mounts, time.Since(asked))
	v.record.Missing--
	v.record.mu.Unlock()
	retry := firstRetry
	for wait := v.nextCall(); sleep(ctx, wait); {
		age := time.Since(v.fetched)
		v.record.mu.Lock()
		v.record.Ages = append(v.record.Ages, age)
		v.record.mu.Unlock()
		if age+skew >= Interval {
			v.publish(ctx, true)
		}
		if time.Since(v.fetched)+skew < tolerance {
			wait, retry = v.nextCall(), firstRetry
			continue
		}
		wait, retry = retry, min(2*retry, lastRetry) // the driver has answered Unavailable
	}
}

func (v *Volume) nextCall() time.Duration { return firstCall + rand64(v.random, lastCall-firstCall) }

func (v *Volume) publish(ctx context.Context, refresh bool) (ok bool) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	v.request.Refresh = refresh
	content, err := v.fetcher().Fetch(ctx, v.request)
	if err != nil {
		return false
	}
	v.fetched = content.Fetched
	if !v.rotated && string(content.Files[0].Data.Reveal()) == newValue {
		v.rotated = true
		v.record.mu.Lock()
		v.record.Rotated = append(v.record.Rotated, time.Since(v.record.changed))
		v.record.Waiting--
		v.record.mu.Unlock()
	}
	return true
}

func rand64(r *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(r.Int64N(int64(d) + 1))
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
