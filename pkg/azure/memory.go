package azure

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// namespaceBytes bounds the answers that are read and parsed for one namespace at the same time. Parsing takes
	// milliseconds. With the copies that the SDK makes, it takes three to four times as much memory.
	namespaceBytes = 256 << 10
	// leastAnswer is the least that an answer counts, for its header and buffers. An answer without Content-Length,
	// which Azure always sends, counts as the whole limit.
	leastAnswer = 4 << 10
	// stalledAnswer is how long an answer counts. One that takes longer waits for the network and must not delay
	// others.
	stalledAnswer = time.Second
)

// Memory bounds the memory of the answers that are being read, per namespace, so that no tenant waits for another.
type Memory struct {
	mu         sync.Mutex
	namespaces map[string]*namespaceMemory
}

type namespaceMemory struct {
	bytes *semaphore.Weighted
	users int
}

// NewMemory makes a Memory with nothing in use.
func NewMemory() *Memory { return &Memory{namespaces: map[string]*namespaceMemory{}} }

type (
	namespaceKey  struct{}
	callMemoryKey struct{}
)

// WithNamespace returns a context whose requests count for the namespace.
func WithNamespace(ctx context.Context, namespace string) context.Context {
	return context.WithValue(ctx, namespaceKey{}, namespace)
}

// WithoutMemory returns a context for a shared call, which may outlive the caller and counts for no namespace.
func WithoutMemory(ctx context.Context) context.Context {
	return context.WithValue(ctx, callMemoryKey{}, nil)
}

// callMemory is the part of a namespace's memory that the answers to one call take.
type callMemory struct {
	of *namespaceMemory

	mu    sync.Mutex
	held  int64
	stall *time.Timer // releases the memory
}

// Call returns a context in which the answers to one call count for the namespace. The caller must call end after it
// has parsed them. What it keeps of them is counted elsewhere.
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

// callMemoryOf returns the memory of the call of ctx; nil if it is not counted.
func callMemoryOf(ctx context.Context) *callMemory {
	m, _ := ctx.Value(callMemoryKey{}).(*callMemory)
	return m
}

// reserve waits until an answer of that size may be read; a negative size is unknown. It first releases the previous
// answer to the same call: the SDK retries, or logs in.
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
