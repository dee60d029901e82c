package driver

import (
	"context"
	"sync"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// fakes are the policy, the fetcher and the store. A field that is set replaces a method. By default the policy allows, the
// fetcher returns an empty set of now, and the store keeps sets in memory.
type fakes struct {
	allow     func(volume.Request) (volume.Permit, error)
	fetch     func(context.Context, volume.Request) (volume.Content, error)
	inspect   func(target string) (volume.State, error)
	publish   func(context.Context, volume.Mount, volume.Content) (volume.Outcome, error)
	unpublish func(string) error
	usage     func(string) (volume.Usage, error)
	problem   error // of the policy
	after     func(volume.Request, time.Time) time.Time

	mu    sync.Mutex
	now   time.Time
	sets  map[string]time.Time
	last  map[string]bool // the sets made in an outage
	calls map[string]int
}

func newFakes() *fakes {
	return &fakes{
		now:   time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC),
		sets:  make(map[string]time.Time),
		last:  make(map[string]bool),
		calls: make(map[string]int),
	}
}

func (f *fakes) count(method string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[method]++
}

func (f *fakes) called(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[method]
}

func (f *fakes) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *fakes) step(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

func (f *fakes) Allow(r volume.Request) (volume.Permit, error) {
	f.count("Allow")
	if f.allow != nil {
		return f.allow(r)
	}
	return nil, nil
}

func (f *fakes) RefreshAfter(r volume.Request, now time.Time) time.Time {
	if f.after != nil {
		return f.after(r, now)
	}
	return time.Time{}
}

func (f *fakes) Problem() error { return f.problem }

func (f *fakes) Fetch(ctx context.Context, r volume.Request) (volume.Content, error) {
	f.count("Fetch")
	if f.fetch != nil {
		return f.fetch(ctx, r)
	}
	return volume.Content{Fetched: f.clock()}, nil
}

func (f *fakes) Forget(id string) {
	f.count("Forget " + id)
}

func (f *fakes) Inspect(_ context.Context, target string) (volume.State, error) {
	f.count("Inspect")
	if f.inspect != nil {
		return f.inspect(target)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	fetched, complete := f.sets[target]
	return volume.State{Published: complete, Fetched: fetched, Outage: f.last[target]}, nil
}

func (f *fakes) Publish(ctx context.Context, m volume.Mount, c volume.Content) (volume.Outcome, error) {
	f.count("Publish")
	if f.publish != nil {
		return f.publish(ctx, m, c)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sets[m.Target], f.last[m.Target] = c.Fetched, c.Outage != nil
	return volume.Outcome{Changed: true}, nil
}

func (f *fakes) Unpublish(target string) error {
	f.count("Unpublish")
	if f.unpublish != nil {
		return f.unpublish(target)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.sets, target)
	return nil
}

func (f *fakes) Usage(path string) (volume.Usage, error) {
	if f.usage != nil {
		return f.usage(path)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.sets[path]; !ok {
		return volume.Usage{}, volume.Errorf(volume.ErrNotFound, "no volume is published at %s", path)
	}
	return volume.Usage{
		TotalBytes: 1000, UsedBytes: 400, AvailableBytes: 600,
		TotalInodes: 10, UsedInodes: 4, AvailableInodes: 6,
	}, nil
}
