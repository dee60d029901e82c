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

// perVolume bounds how many objects of one volume are read at the same time.
const perVolume = 16

// read is one request to a vault on behalf of one or several objects.
type read struct {
	request  vault.Request
	objects  []*volume.Object // that need it
	named    int              // index of the object that errors name
	optional bool             // every object is

	at       time.Time       // just before the vault was asked
	absent   bool            // there is no such object, or it is disabled
	names    []string        // of a list
	files    [][]volume.File // of each object
	notAfter time.Time       // of a certificate
	outage   error           // why the files are of the last known value and not of what the vault has now
	err      error
}

func (r *read) object() volume.Object { return *r.objects[r.named] }

// output is where the files of an object are: those of the object at an index of a read.
type output struct {
	read  *read
	index int
}

// plan gives the distinct reads in the order in which the objects first need them, and where each object's files will be.
func plan(objects []volume.Object) (reads []*read, outputs []output) {
	known := make(map[vault.Request]*read, len(objects))
	reads, outputs = make([]*read, 0, len(objects)), make([]output, 0, len(objects))
	for i := range objects {
		object := &objects[i]
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
		outputs = append(outputs, output{r, len(r.objects)})
		r.objects = append(r.objects, object)
	}
	return reads, outputs
}

// run does the reads that the cache does not answer, some at a time. When one fails, those after it are given up,
// those before it are not: so the error is always that of the first read that fails, whichever happens to fail first.
// Only a volume that is too large ends all of them.
func (f *fetch) run(ctx context.Context, reads []*read) error {
	left := f.cached(ctx, reads)
	if f.spread(ctx, left) {
		left = f.cached(ctx, left)
	}
	if err := firstError(reads); errors.Is(err, volume.ErrTooLarge) {
		return err
	}
	all, cancelAll := context.WithCancel(ctx)
	defer cancelAll()
	running := running{cancels: map[int]context.CancelFunc{}, failed: len(left)}
	var group errgroup.Group
	group.SetLimit(perVolume)
	for i, r := range left {
		ctx, wanted := running.begin(all, i)
		if !wanted {
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

// running are the reads of a volume that are under way, by their index.
type running struct {
	mu      sync.Mutex
	cancels map[int]context.CancelFunc
	failed  int // the first that has failed
}

// begin gives the context of a read, unless one before it has failed.
func (u *running) begin(parent context.Context, i int) (_ context.Context, wanted bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if i > u.failed {
		return nil, false
	}
	ctx, cancel := context.WithCancel(parent)
	u.cancels[i] = cancel
	return ctx, true
}

// end gives up, after a failure, the reads that come later.
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

// guardedRead runs on a goroutine of its own, where a panic would end the process; it becomes the error of one object.
func (f *fetch) guardedRead(ctx context.Context, r *read) error {
	err := azure.Guarded(func() error { return f.read(ctx, r) })
	if errors.Is(err, azure.ErrPanic) {
		return f.explain(ctx, r.object(), &cache.Failure{Err: err, Asked: theVault})
	}
	return err
}

// firstError prefers a refusal to a context that ended: the refusal is what there is to repair.
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

// mayRead asks the node whether one more object may be read.
func (f *fetch) mayRead(ctx context.Context, vault string) (done func(), err error) {
	if f.Memory == nil {
		return func() {}, nil
	}
	return f.Memory.Read(ctx, vault)
}

// reserve asks the node for memory.
func (f *fetch) reserve(ctx context.Context, bytes int64) error {
	if f.Memory == nil {
		return nil
	}
	return f.Memory.Hold(ctx, bytes)
}
