package azure

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// namespaceBytes bounds the bytes of all answers that are read and parsed for one namespace at the same time. That takes
	// milliseconds and, with what the SDK makes of a body, three to four times as much memory.
	namespaceBytes = 256 << 10
	// leastAnswer is what an answer counts at least: its head and its buffers. unknownAnswer is the size of the largest
	// secret, for an answer without Content-Length. Of those that become longer, a namespace has one at a time.
	leastAnswer   = 4 << 10
	unknownAnswer = 48 << 10
	// stalledAnswer is how long an answer counts: one that takes longer waits for the network, and must not keep others
	// waiting.
	stalledAnswer = time.Second
)

// Memory bounds the memory of answers that are being read, for each namespace apart, so that no tenant waits for the
// answers of another.
type Memory struct {
	mu         sync.Mutex
	namespaces map[string]*namespaceMemory
}

type namespaceMemory struct {
	bytes  *semaphore.Weighted
	longer *semaphore.Weighted // for the one that becomes longer
	users  int
}

// NewMemory makes a Memory of which nothing is in use.
func NewMemory() *Memory { return &Memory{namespaces: map[string]*namespaceMemory{}} }

type (
	namespaceKey  struct{}
	callMemoryKey struct{}
)

// WithNamespace names the namespace on whose behalf everything is asked in a context.
func WithNamespace(ctx context.Context, namespace string) context.Context {
	return context.WithValue(ctx, namespaceKey{}, namespace)
}

// WithoutMemory gives a context for a call that others wait for too, and that may outlive the one around it.
func WithoutMemory(ctx context.Context) context.Context {
	return context.WithValue(ctx, callMemoryKey{}, nil)
}

// callMemory is what the answers to one call take of their namespace's memory.
type callMemory struct {
	of *namespaceMemory

	mu    sync.Mutex
	held  int64
	long  bool        // it is the one that may become longer
	stall *time.Timer // ends both
}

// Call gives a context in which the answers to one call are counted for the namespace, and the end of the call: then they
// have been parsed, and what is kept of them is counted elsewhere.
func (m *Memory) Call(ctx context.Context) (_ context.Context, end func()) {
	namespace, _ := ctx.Value(namespaceKey{}).(string)
	m.mu.Lock()
	defer m.mu.Unlock()
	n, ok := m.namespaces[namespace]
	if !ok {
		n = &namespaceMemory{bytes: semaphore.NewWeighted(namespaceBytes), longer: semaphore.NewWeighted(1)}
		m.namespaces[namespace] = n
	}
	n.users++
	call := &callMemory{of: n}
	return context.WithValue(ctx, callMemoryKey{}, call), func() {
		call.release()
		m.mu.Lock()
		defer m.mu.Unlock()
		if n.users--; n.users == 0 {
			delete(m.namespaces, namespace)
		}
	}
}

// callMemoryOf gives the memory of the call that ctx is of; nil when it is not counted.
func callMemoryOf(ctx context.Context) *callMemory {
	m, _ := ctx.Value(callMemoryKey{}).(*callMemory)
	return m
}

// reserve waits until an answer of so many bytes may be read; a negative number means that it is not known. An earlier
// answer to the same call is over: the SDK tries again, or logs in.
func (m *callMemory) reserve(ctx context.Context, bytes int64) error {
	m.release()
	if bytes < 0 {
		bytes = unknownAnswer
	}
	bytes = min(max(bytes, leastAnswer), namespaceBytes)
	if err := m.of.bytes.Acquire(ctx, bytes); err != nil {
		return err
	}
	m.hold(bytes, false)
	return nil
}

// grow waits until an answer of which so many bytes have come may become longer, if that is more than was reserved for it.
// It asks only once, so that no two answers wait for each other; maxBody bounds the rest.
func (m *callMemory) grow(ctx context.Context, come int64) error {
	m.mu.Lock()
	enough := come <= m.held || m.long
	m.mu.Unlock()
	if enough {
		return nil
	}
	if err := m.of.longer.Acquire(ctx, 1); err != nil {
		return err
	}
	m.hold(0, true)
	return nil
}

func (m *callMemory) hold(bytes int64, long bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held += bytes
	m.long = m.long || long
	if m.stall != nil {
		m.stall.Stop()
	}
	m.stall = time.AfterFunc(stalledAnswer, m.release)
}

func (m *callMemory) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stall != nil {
		m.stall.Stop()
	}
	m.of.bytes.Release(m.held)
	m.held = 0
	if m.long {
		m.of.longer.Release(1)
		m.long = false
	}
}
