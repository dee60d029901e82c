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
	// leastAnswer is what an answer counts at least: its head and its buffers. One without Content-Length, which Azure always
	// sends, counts as all that a namespace has.
	leastAnswer = 4 << 10
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
	bytes *semaphore.Weighted
	users int
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
	stall *time.Timer // gives it back
}

// Call gives a context in which the answers to one call are counted for the namespace, and the end of the call: then they
// have been parsed, and what is kept of them is counted elsewhere.
func (m *Memory) Call(ctx context.Context) (_ context.Context, end func()) {
	namespace, _ := ctx.Value(namespaceKey{}).(string)
	m.mu.Lock()
	defer m.mu.Unlock()
	n, ok := m.namespaces[namespace]
	if !ok {
		n = &namespaceMemory{bytes: semaphore.NewWeighted(namespaceBytes)}
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
		bytes = namespaceBytes
	}
	bytes = min(max(bytes, leastAnswer), namespaceBytes)
	if err := m.of.bytes.Acquire(ctx, bytes); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = bytes
	m.stall = time.AfterFunc(stalledAnswer, m.release)
	return nil
}

func (m *callMemory) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stall != nil {
		m.stall.Stop()
	}
	m.of.bytes.Release(m.held)
	m.held = 0
}
