package reads

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/cache"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// perVolume bounds the concurrent reads of one volume.
const perVolume = 16

// Run reads the objects, each distinct request once, and passes the values to take. Those that are absent are optional; they
// have no value. The error is of the first object that failed.
func (f *Fetch) Run(ctx context.Context, objects []volume.Object, take Take) error {
	f.reads, f.take = plan(objects), take
	return f.run(ctx, f.reads)
}

// run does the reads that the cache cannot answer, with limited concurrency. A failure cancels the later reads, but
// not the earlier ones. So the error is always of the first failing read in the order of the objects. Only a volume
// that is too large cancels all reads.
func (f *Fetch) run(ctx context.Context, reads []*read) error {
	left := f.cached(ctx, reads)
	if f.spread(ctx, left) {
		left = f.cached(ctx, left)
	}
	f.limitTime()
	left = f.changed(ctx, left)
	if err := firstError(reads); errors.Is(err, volume.ErrTooLarge) {
		return err
	}
	f.oldestFirst(left)
	ctx, cancelMount := f.mountTimeout(ctx, len(left))
	defer cancelMount()
	all, cancelAll := context.WithCancel(ctx)
	defer cancelAll()
	running := running{cancels: map[int]context.CancelFunc{}, failed: len(left)}
	var group errgroup.Group
	group.SetLimit(f.concurrency())
	for i, r := range left {
		ctx, ok := running.begin(all, i)
		if !ok {
			break
		}
		done, err := f.mayRead(ctx, r.request.Vault)
		if err != nil {
			r.err = err
			running.end(i, true)
			break
		}
		group.Go(func() error {
			defer done()
			r.err = f.guardedRead(ctx, r)
			running.end(i, r.err != nil)
			if errors.Is(r.err, volume.ErrTooLarge) {
				cancelAll()
			}
			return nil
		})
	}
	_ = group.Wait() // the reads have their errors
	return firstError(reads)
}

// running holds the reads of a volume that are in progress, by index.
type running struct {
	mu      sync.Mutex
	cancels map[int]context.CancelFunc
	failed  int // index of the first that has failed
}

// begin returns the context of a read. It declines if an earlier read has failed.
func (u *running) begin(parent context.Context, i int) (_ context.Context, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if i > u.failed {
		return nil, false
	}
	ctx, cancel := context.WithCancel(parent)
	u.cancels[i] = cancel
	return ctx, true
}

// end ends a read. If the read has failed, it cancels the later ones.
func (u *running) end(i int, failed bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.cancels[i]()
	delete(u.cancels, i)
	if !failed || i > u.failed {
		return
	}
	u.failed = i
	for other, cancel := range u.cancels {
		if other > i {
			cancel()
		}
	}
}

// guardedRead turns a panic into the error of one object. It runs in its own goroutine, where a panic would end the
// process.
func (f *Fetch) guardedRead(ctx context.Context, r *read) error {
	err := azure.Guarded(func() error { return f.read(ctx, r) })
	if errors.Is(err, azure.ErrPanic) {
		return f.explain(ctx, r.object(), &cache.Failure{Err: err, Asked: theVault})
	}
	return err
}

// firstError prefers a refusal to the end of a context: the user can repair the refusal.
func firstError(reads []*read) error {
	var ended error
	for _, r := range reads {
		switch {
		case r.err == nil:
		case !errors.Is(r.err, context.Canceled) && !errors.Is(r.err, context.DeadlineExceeded):
			return r.err
		case ended == nil:
			ended = r.err
		}
	}
	return ended
}

// mayRead asks the memory limit of the node for one more read.
func (f *Fetch) mayRead(ctx context.Context, vault string) (done func(), err error) {
	if f.Memory == nil {
		return func() {}, nil
	}
	return f.Memory.Read(ctx, vault)
}
