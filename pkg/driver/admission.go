package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const (
	// namespaceSlots bounds the publishes of a namespace that fetch and write at the same time.
	namespaceSlots = 64
	// queueBytes bounds the attributes and Secrets of the publishes of a namespace that wait. Those of at most ordinaryBytes
	// have a queue of their own, in which 500 volumes of 2 KiB can wait.
	queueBytes, ordinaryQueueBytes, ordinaryBytes = 256 << 10, 1 << 20, 8 << 10
	// entryBytes is the memory of a parsed line, or part of a line, of a list; an object has one to three.
	entryBytes = 512
	// vaultReads bounds the concurrent reads of a namespace from one vault, so that a vault that hangs blocks no more than
	// these. namespaceReads is for all vaults together: a read that hangs holds a connection, some 45 KB.
	vaultReads, namespaceReads = 16, 64
	// namespaceBytes bounds what the volumes of a namespace hold together. A larger volume needs a large slot. smallBytes is
	// what the oldest publish of a namespace may always hold, so that small volumes need no large slot.
	namespaceBytes, smallBytes = 256 << 10, 64 << 10
	// largeSlots is for the whole node. A volume of 4,096 objects and 1 MiB takes some 5 MB.
	largeSlots = 2
	// While others wait for a large slot, a publish loses it after largeStall without progress (its vault hangs or throttles),
	// and in any case after largeTime. largePoll is how often that is checked.
	largeStall, largeTime, largePoll = 3 * time.Second, 30 * time.Second, time.Second
)

// errEvicted ends a publish that has lost its large slot.
var errEvicted = volume.Errorf(volume.ErrTooLarge, "the volume is large and its vault slow, and other large volumes waited for it; the kubelet tries again")

// admission bounds the memory of the publishes that fetch. Each namespace has a share of its own, so that no tenant waits
// for another. An unpublish, or a publish with nothing to fetch, needs no admission.
//
// A publish holds memory from the time its files arrive until they are written. If it would exceed the share of its
// namespace, it waits for the other publishes there. Only the oldest does not wait for them: it may hold smallBytes, and
// beyond them it needs a large slot. The large slots are given in order of arrival, so that of ten tenants with nothing but
// large volumes each is served.
type admission struct {
	mu         sync.Mutex
	namespaces map[string]*namespaceLoad
	large      []*reservation // those with a large slot
	queue      []*reservation // each once for every Hold that waits for a large slot, in order of arrival
}

// namespaceLoad is what the publishes of a namespace hold.
type namespaceLoad struct {
	name            string
	users           int                 // calls of use without unuse
	queue, ordinary *semaphore.Weighted // queueBytes, and those of ordinary publishes
	slots           *semaphore.Weighted
	sharing         []*reservation // those with a slot that are not large, the oldest first
	bytes           int64          // that these hold
	reads           map[string]int // by vault
	reading         int            // the sum of reads
	changed         chan struct{}  // closed when something is given back
}

// reservation is what one publish holds. It implements [volume.Memory].
type reservation struct {
	admission *admission
	load      *namespaceLoad
	cancel    context.CancelCauseFunc
	bytes     int64
	progress  time.Time // when it got something last
	large     time.Time // when it got a large slot; zero without one
}

func newAdmission() *admission { return &admission{namespaces: map[string]*namespaceLoad{}} }

// admit waits for a slot and for the memory of the attributes and of the Secret. The returned context is that of the
// publish; it also ends when the publish is evicted. Without an error the caller must call release.
func (a *admission) admit(ctx context.Context, namespace string, attributes, secrets map[string]string) (context.Context, *reservation, error) {
	load := a.use(namespace)
	defer a.unuse(load)
	size, entries := measure(attributes, secrets)
	queue, queued := load.queue, min(size, queueBytes)
	if size <= ordinaryBytes {
		queue = load.ordinary
	}
	if !queue.TryAcquire(queued) {
		return nil, nil, volume.Errorf(volume.ErrTooLarge,
			"too many large volumes of the namespace are mounted or refreshed at the same time; the kubelet tries again")
	}
	defer queue.Release(queued)
	if err := load.slots.Acquire(ctx, 1); err != nil {
		return nil, nil, waitError(err)
	}
	r := &reservation{admission: a, load: a.use(namespace)}
	ctx, r.cancel = context.WithCancelCause(ctx)
	a.mu.Lock()
	load.sharing = append(load.sharing, r)
	a.mu.Unlock()
	if err := r.Hold(ctx, size+entryBytes*entries); err != nil {
		r.release()
		return nil, nil, err
	}
	return ctx, r, nil
}

func (a *admission) use(namespace string) *namespaceLoad {
	a.mu.Lock()
	defer a.mu.Unlock()
	load := a.namespaces[namespace]
	if load == nil {
		load = &namespaceLoad{
			name:  namespace,
			queue: semaphore.NewWeighted(queueBytes), ordinary: semaphore.NewWeighted(ordinaryQueueBytes),
			slots: semaphore.NewWeighted(namespaceSlots), reads: map[string]int{}, changed: make(chan struct{}),
		}
		a.namespaces[namespace] = load
	}
	load.users++
	return load
}

// unuse forgets a namespace without publishes.
func (a *admission) unuse(load *namespaceLoad) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if load.users--; load.users == 0 {
		delete(a.namespaces, load.name)
	}
}

// measure returns the bytes of the attributes and of the Secret, and about how many entries the lists of the attributes
// have: one of these marks stands before each.
func measure(attributes, secrets map[string]string) (size, entries int64) {
	for _, texts := range []map[string]string{attributes, secrets} {
		for name, value := range texts {
			size += int64(len(name) + len(value))
		}
	}
	for _, list := range []string{volume.AttributeSecrets, volume.AttributeCertificates, volume.AttributeObjects} {
		for _, mark := range []string{";", "\n", ",", "{", "["} {
			entries += int64(strings.Count(attributes[list], mark))
		}
	}
	return size, entries + 1
}

// release gives back everything.
func (r *reservation) release() {
	a, load := r.admission, r.load
	defer a.unuse(load)
	r.cancel(nil)
	load.slots.Release(1)
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.large.IsZero() {
		load.bytes -= r.bytes
	}
	load.sharing, a.large = remove(load.sharing, r), remove(a.large, r)
	load.wake()
	a.wakeQueue()
}

// remove deletes the first r.
func remove(list []*reservation, r *reservation) []*reservation {
	if i := slices.Index(list, r); i >= 0 {
		return slices.Delete(list, i, i+1)
	}
	return list
}

// Hold implements [volume.Memory].
func (r *reservation) Hold(ctx context.Context, bytes int64) error {
	a, load, queued := r.admission, r.load, false
	err := r.wait(ctx, func() bool {
		switch {
		case !r.large.IsZero():
		case load.bytes+bytes <= namespaceBytes, r.oldest() && r.bytes+bytes <= smallBytes:
			load.bytes += bytes
		case !r.oldest():
			return false
		default:
			if !queued {
				a.queue, queued = append(a.queue, r), true
			}
			if !a.giveLarge(r) {
				return false
			}
		}
		r.bytes += bytes
		return true
	})
	if queued {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.queue = remove(a.queue, r)
		a.wakeQueue()
	}
	return err
}

// giveLarge gives a free large slot to r if it is the first of the queue. If no slot is free it evicts the publishes whose
// time is over. The caller holds a.mu.
func (a *admission) giveLarge(r *reservation) bool {
	now := time.Now()
	if len(a.large) == largeSlots {
		for _, large := range a.large {
			if now.Sub(large.progress) >= largeStall || now.Sub(large.large) >= largeTime {
				large.cancel(errEvicted)
			}
		}
		return false
	}
	if a.queue[0] != r {
		return false
	}
	a.large, r.large = append(a.large, r), now
	r.load.sharing = remove(r.load.sharing, r)
	r.load.bytes -= r.bytes // a large volume is not part of the share
	r.load.wake()
	return true
}

// wakeQueue lets the first of the queue try again. The caller holds a.mu.
func (a *admission) wakeQueue() {
	if len(a.queue) > 0 {
		a.queue[0].load.wake()
	}
}

// Read implements [volume.Memory].
func (r *reservation) Read(ctx context.Context, vault string) (done func(), err error) {
	load := r.load
	err = r.wait(ctx, func() bool {
		if full := load.reads[vault] >= vaultReads || load.reading >= namespaceReads; full && r.large.IsZero() && !r.oldest() {
			return false
		}
		load.reading++
		load.reads[vault]++
		return true
	})
	if err != nil {
		return nil, err
	}
	return func() {
		r.admission.mu.Lock()
		defer r.admission.mu.Unlock()
		load.reading--
		if load.reads[vault]--; load.reads[vault] == 0 {
			delete(load.reads, vault)
		}
		load.wake()
	}, nil
}

// oldest reports whether r is the oldest of those that share the memory of the namespace. The caller holds admission.mu.
func (r *reservation) oldest() bool { return len(r.load.sharing) > 0 && r.load.sharing[0] == r }

// wait calls take under admission.mu until it succeeds: at once, and whenever something has been given back.
func (r *reservation) wait(ctx context.Context, take func() bool) error {
	for {
		r.admission.mu.Lock()
		taken, changed := take(), r.load.changed
		if taken {
			r.progress = time.Now()
		}
		r.admission.mu.Unlock()
		if taken {
			return nil
		}
		select {
		case <-changed:
		case <-time.After(largePoll):
		case <-ctx.Done():
			return waitError(context.Cause(ctx))
		}
	}
}

// wake lets those that wait try again. The caller holds admission.mu.
func (l *namespaceLoad) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// waitError says what a publish waited for when its time ended.
func waitError(err error) error {
	if errors.Is(err, errEvicted) {
		return err
	}
	return fmt.Errorf("waiting for memory of the driver that other volumes hold; mount fewer or smaller volumes at once: %w", err)
}
