package driver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/semaphore"
)

const (
	// perNamespace bounds the volumes of one namespace that are fetched and written at the same time, those that wait for a
	// vault included.
	perNamespace = 64
	// perVault bounds the objects that a namespace reads from one vault at the same time. A vault is not sent more requests
	// at once, so that nothing gets slower; and a vault that hangs keeps only its own.
	perVault = 16
	// namespaceBytes is what the volumes of a namespace may hold together before only the oldest of them goes on.
	namespaceBytes = 512 << 10
	// entryBytes is what one entry of an attribute takes once it is understood: measured and rounded up.
	entryBytes = 1 << 10
)

// admission bounds what the publishes that fetch take of the node's memory: each namespace has a share of its own, so
// that no tenant waits for another. Unpublishing, and volumes that are young enough, never come here.
//
// A publish takes memory as its files arrive, and gives it back when they are written. One that would exceed the share of
// its namespace waits for the others, except the oldest: it always goes on, or all might wait for each other. So a
// namespace holds at most its share and one volume, and what is read for the next files.
type admission struct {
	mu         sync.Mutex
	namespaces map[string]*namespaceLoad
}

// namespaceLoad is what the publishes of a namespace hold.
type namespaceLoad struct {
	turns     *semaphore.Weighted
	users     int            // publishes, those that wait for their turn included
	publishes []*admitted    // the oldest first
	reads     map[string]int // by vault
	bytes     int64
	changed   chan struct{} // closed when something has been given back
}

// admitted is one publish. It is a [volume.Memory].
type admitted struct {
	admission *admission
	namespace string
	load      *namespaceLoad
	bytes     int64
}

func newAdmission() *admission { return &admission{namespaces: map[string]*namespaceLoad{}} }

// enter waits for the turn of a publish, at most as long as ctx lasts. attributes are what it asks for. The caller must
// call leave, if there is no error.
func (a *admission) enter(ctx context.Context, namespace string, attributes map[string]string) (*admitted, error) {
	p := &admitted{admission: a, namespace: namespace, load: a.use(namespace)}
	if err := p.load.turns.Acquire(ctx, 1); err != nil {
		a.release(p)
		return nil, waited(err)
	}
	a.mu.Lock()
	p.load.publishes = append(p.load.publishes, p)
	a.mu.Unlock()
	if err := p.Hold(ctx, entryBytes*entries(attributes)); err != nil {
		p.leave()
		return nil, err
	}
	return p, nil
}

func (a *admission) use(namespace string) *namespaceLoad {
	a.mu.Lock()
	defer a.mu.Unlock()
	load, ok := a.namespaces[namespace]
	if !ok {
		load = &namespaceLoad{turns: semaphore.NewWeighted(perNamespace), reads: map[string]int{}, changed: make(chan struct{})}
		a.namespaces[namespace] = load
	}
	load.users++
	return load
}

// release is the opposite of use.
func (a *admission) release(p *admitted) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.load.users--; p.load.users == 0 {
		delete(a.namespaces, p.namespace)
	}
}

// entries is about how many entries the attributes have: each is behind one of these characters.
func entries(attributes map[string]string) (n int64) {
	for _, value := range attributes {
		n++
		for _, mark := range []string{";", "\n", ",", "{", "["} {
			n += int64(strings.Count(value, mark))
		}
	}
	return n
}

// Hold implements [volume.Memory].
func (p *admitted) Hold(ctx context.Context, bytes int64) error {
	return p.wait(ctx, func() bool {
		if p.load.bytes+bytes > namespaceBytes && !p.oldest() {
			return false
		}
		p.load.bytes += bytes
		p.bytes += bytes
		return true
	})
}

// Read implements [volume.Memory].
func (p *admitted) Read(ctx context.Context, vault string) (done func(), err error) {
	err = p.wait(ctx, func() bool {
		if p.load.reads[vault] >= perVault && !p.oldest() {
			return false
		}
		p.load.reads[vault]++
		return true
	})
	if err != nil {
		return nil, err
	}
	return func() {
		p.admission.mu.Lock()
		defer p.admission.mu.Unlock()
		if p.load.reads[vault]--; p.load.reads[vault] == 0 {
			delete(p.load.reads, vault)
		}
		p.load.wake()
	}, nil
}

// oldest says whether nobody waits for this publish to end. The caller holds admission.mu.
func (p *admitted) oldest() bool { return p.load.publishes[0] == p }

// wait tries to take something, again whenever something has been given back. take is called under admission.mu.
func (p *admitted) wait(ctx context.Context, take func() bool) error {
	for {
		p.admission.mu.Lock()
		taken, changed := take(), p.load.changed
		p.admission.mu.Unlock()
		if taken {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return waited(ctx.Err())
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
	p.load.bytes -= p.bytes
	p.load.publishes = slices.DeleteFunc(p.load.publishes, func(other *admitted) bool { return other == p })
	p.load.wake()
	a.mu.Unlock()
	p.load.turns.Release(1)
	a.release(p)
}

// waited says what a publish waited for when its time ended.
func waited(err error) error {
	return fmt.Errorf("waiting for other volumes of the same namespace, which have their share of the driver's memory: %w", err)
}
