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
	// perNamespace bounds the volumes of one namespace that are fetched and written at the same time, those that wait for a
	// vault included.
	perNamespace = 64
	// perVault bounds the objects that a namespace reads from one vault at the same time. A vault is not sent more requests
	// at once, so that nothing gets slower; and a vault that hangs keeps only its own.
	perVault = 16
	// perNamespaceReads is the same for all vaults together. Each read that hangs has a connection: some 45 KB in all.
	perNamespaceReads = 4 * perVault
	// namespaceBytes is what the volumes of a namespace may hold together; what is larger goes one by one, see large.
	namespaceBytes = 256 << 10
	// smallBytes is what a volume may always hold when it is the oldest of its namespace, whatever the others have: no
	// namespace's ordinary volumes wait for the large ones of another.
	smallBytes = 64 << 10
	// waitingBytes is what the attributes and Secrets of those may take that wait: a pod can have hundreds of volumes.
	// Ordinary ones, of at most ordinaryBytes, may take four times as much: 500 volumes of 2 KiB that start at once.
	waitingBytes, ordinaryBytes = 256 << 10, 8 << 10
	// entryBytes is what a line or a part of a line of a list takes once it is understood; an object has one to three.
	entryBytes = 512
)

// admission bounds what the publishes that fetch take of the node's memory: each namespace has a share of its own, so
// that no tenant waits for another. Unpublishing, and volumes that are young enough, never come here.
//
// A publish takes memory as its files arrive, and gives it back when they are written. One that would exceed the share of
// its namespace waits for the others, except the oldest: it goes on while it is small, and then becomes a large one, of
// which the node has few at a time, and which counts apart.
type admission struct {
	mu         sync.Mutex
	namespaces map[string]*namespaceLoad
	large      large
}

// namespaceLoad is what the publishes of a namespace hold.
type namespaceLoad struct {
	turns     *semaphore.Weighted
	users     int            // publishes, those that wait for their turn included
	waiting   int64          // bytes of the attributes and Secrets of those
	publishes []*admitted    // the oldest first
	reads     map[string]int // by vault
	reading   int            // of all vaults
	bytes     int64
	changed   chan struct{} // closed when something has been given back
}

// admitted is one publish. It is a [volume.Memory].
type admitted struct {
	admission *admission
	namespace string
	load      *namespaceLoad
	bytes     int64
	holds     int // calls of Hold that have not ended
	cancel    context.CancelCauseFunc
	moved     time.Time // when it took something last
	large     bool
	since     time.Time // when it became a large one
}

func newAdmission() *admission { return &admission{namespaces: map[string]*namespaceLoad{}} }

// enter waits for the turn of a publish, at most as long as ctx lasts. attributes are what it asks for, and secrets what
// comes with it. The context that it gives is that of the publish, and ends also when the publish has to give way. The caller
// must call leave, if there is no error.
func (a *admission) enter(ctx context.Context, namespace string, attributes, secrets map[string]string) (context.Context, *admitted, error) {
	p := &admitted{admission: a, namespace: namespace}
	size, count := measure(attributes, secrets)
	if !a.use(p, size) {
		return nil, nil, volume.Errorf(volume.ErrTooLarge,
			"too many large volumes of the namespace are mounted or refreshed at the same time; the kubelet tries again")
	}
	err := p.load.turns.Acquire(ctx, 1)
	if err != nil {
		a.release(p, size)
		return nil, nil, waited(err)
	}
	a.mu.Lock()
	p.load.publishes = append(p.load.publishes, p)
	a.mu.Unlock()
	ctx, p.cancel = context.WithCancelCause(ctx)
	err = p.Hold(ctx, size+entryBytes*count)
	a.mu.Lock()
	p.load.waiting -= size
	a.mu.Unlock()
	if err != nil {
		p.leave()
		return nil, nil, err
	}
	return ctx, p, nil
}

// use counts a publish that wants to enter, unless too much waits already.
func (a *admission) use(p *admitted, size int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	load, ok := a.namespaces[p.namespace]
	if !ok {
		load = &namespaceLoad{turns: semaphore.NewWeighted(perNamespace), reads: map[string]int{}, changed: make(chan struct{})}
	}
	most := int64(waitingBytes)
	if size <= ordinaryBytes {
		most *= 4
	}
	if load.waiting > 0 && load.waiting+size > most {
		return false
	}
	a.namespaces[p.namespace] = load
	load.users++
	load.waiting += size
	p.load = load
	return true
}

// release is the opposite of use. waiting are the bytes that wait no more.
func (a *admission) release(p *admitted, waiting int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p.load.waiting -= waiting
	if p.load.users--; p.load.users == 0 {
		delete(a.namespaces, p.namespace)
	}
}

// measure gives the bytes of attributes and of a Secret, which may be as large, and about how many entries the lists of the
// attributes have: each is behind one of these characters.
func measure(attributes, secrets map[string]string) (size, entries int64) {
	for _, all := range []map[string]string{attributes, secrets} {
		for name, value := range all {
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

// Hold implements [volume.Memory].
func (p *admitted) Hold(ctx context.Context, bytes int64) error {
	a := p.admission
	a.mu.Lock()
	p.holds++
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if p.holds--; p.holds == 0 { // whatever came of it, it is not in the way of others
			a.large.pass(p)
		}
	}()
	return p.wait(ctx, func() bool {
		switch {
		case p.large:
		case p.load.bytes+bytes <= namespaceBytes, p.oldest() && p.bytes+bytes <= smallBytes:
			p.load.bytes += bytes
		case p.oldest() && a.large.admit(p):
			p.load.bytes -= p.bytes // what a large one has is no part of the share
			p.load.wake()
		default:
			return false
		}
		p.bytes += bytes
		return true
	})
}

// Read implements [volume.Memory].
func (p *admitted) Read(ctx context.Context, vault string) (done func(), err error) {
	err = p.wait(ctx, func() bool {
		if full := p.load.reads[vault] >= perVault || p.load.reading >= perNamespaceReads; full && !p.large && !p.oldest() {
			return false
		}
		p.load.reading++
		p.load.reads[vault]++
		return true
	})
	if err != nil {
		return nil, err
	}
	return func() {
		p.admission.mu.Lock()
		defer p.admission.mu.Unlock()
		p.load.reading--
		if p.load.reads[vault]--; p.load.reads[vault] == 0 {
			delete(p.load.reads, vault)
		}
		p.load.wake()
	}, nil
}

// oldest says whether a publish is the one of its namespace that goes on whatever the others have: the oldest, those that
// have become large not counted. The caller holds admission.mu.
func (p *admitted) oldest() bool {
	for _, other := range p.load.publishes {
		if !other.large {
			return other == p
		}
	}
	return false
}

// wait tries to take something, again whenever something has been given back. take is called under admission.mu.
func (p *admitted) wait(ctx context.Context, take func() bool) error {
	ticker := time.NewTicker(largeTick)
	defer ticker.Stop()
	for {
		p.admission.mu.Lock()
		taken, changed := take(), p.load.changed
		if taken {
			p.moved = time.Now()
		}
		p.admission.mu.Unlock()
		if taken {
			return nil
		}
		select {
		case <-changed:
		case <-ticker.C:
		case <-ctx.Done():
			return waited(context.Cause(ctx))
		}
	}
}

// wake lets those try again who wait. The caller holds admission.mu.
func (l *namespaceLoad) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// leave gives back what a publish holds.
func (p *admitted) leave() {
	a := p.admission
	a.mu.Lock()
	if !p.large {
		p.load.bytes -= p.bytes
	}
	a.large.leave(p)
	p.load.publishes = slices.DeleteFunc(p.load.publishes, func(other *admitted) bool { return other == p })
	p.load.wake()
	a.mu.Unlock()
	p.load.turns.Release(1)
	p.cancel(nil)
	a.release(p, 0)
}

// waited says what a publish waited for when its time ended.
func waited(err error) error {
	if errors.Is(err, errGaveWay) {
		return err
	}
	return fmt.Errorf("waiting for memory of the driver that other volumes hold; mount fewer or smaller volumes at once: %w", err)
}
