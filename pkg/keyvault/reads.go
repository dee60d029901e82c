package keyvault

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/cache"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/vault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// perVolume bounds the concurrent reads of one volume.
const perVolume = 16

// read is one request to a vault on behalf of one or several objects.
type read struct {
	request  vault.Request
	objects  []*volume.Object // that need it
	named    int              // index of the object that errors name
	optional bool             // every object is
	pages    int              // of a list for changes, at most; 0 for anything else

	at       time.Time     // just before the request to the vault, or to a later list that shows no change
	read     time.Time     // just before the request to the vault
	names    []string      // of a list, or the versions of a history
	stamps   []vault.Stamp // of a list, for each name
	reserved bool          // the throttle of the vault has a turn for it
	outage   error         // why the files are of the last known value
	err      error
}

func (r *read) object() volume.Object { return *r.objects[r.named] }

// plan returns the distinct reads in the order in which the objects first need them.
func plan(objects []volume.Object) (reads []*read) {
	known := make(map[vault.Request]*read, len(objects))
	reads = make([]*read, 0, len(objects))
	add := func(object *volume.Object) {
		request := vault.RequestOf(*object)
		r, ok := known[request]
		if !ok {
			r = &read{request: request, optional: true}
			known[request] = r
			reads = append(reads, r)
		}
		if r.optional && !object.Optional {
			r.named, r.optional = len(r.objects), false // its absence is the error
		}
		r.objects = append(r.objects, object)
	}
	for i := range objects {
		add(&objects[i])
		if password := objects[i].Password; password != nil {
			add(password)
		}
	}
	return reads
}

// run does the reads that the cache cannot answer, with limited concurrency. A failure cancels the later reads, but
// not the earlier ones. So the error is always of the first failing read in the order of the objects. Only a volume
// that is too large cancels all reads.
func (f *fetch) run(ctx context.Context, reads []*read) error {
	left := f.cached(ctx, reads)
	if f.spread(ctx, left) {
		left = f.cached(ctx, left)
	}
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
func (f *fetch) guardedRead(ctx context.Context, r *read) error {
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
func (f *fetch) mayRead(ctx context.Context, vault string) (done func(), err error) {
	if f.Memory == nil {
		return func() {}, nil
	}
	return f.Memory.Read(ctx, vault)
}

// reserve counts bytes against the node's memory limit.
func (f *fetch) reserve(ctx context.Context, bytes int64) error {
	if f.Memory == nil {
		return nil
	}
	return f.Memory.Hold(ctx, bytes)
}
