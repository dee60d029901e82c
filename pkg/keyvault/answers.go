package keyvault

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// answerBytes bounds the bytes of all answers that are being read and understood for one namespace. That takes
	// milliseconds and, with what the SDK makes of a body, three to four times as much memory.
	answerBytes = 256 << 10
	// leastAnswer is what an answer counts at least: its head and its buffers. unknownAnswer is what one counts that does
	// not say how long it is: that of the largest secret. Of those that become longer a namespace has one at a time.
	leastAnswer   = 4 << 10
	unknownAnswer = 48 << 10
	// stalledAnswer is how long an answer counts: one that takes longer waits for the network, and must not keep others
	// waiting.
	stalledAnswer = time.Second
)

// answers bounds the memory of answers on their way, for each namespace apart, so that no tenant waits for those of
// another.
type answers struct {
	mu         sync.Mutex
	namespaces map[string]*namespaceAnswers
}

type namespaceAnswers struct {
	bytes  *semaphore.Weighted
	longer *semaphore.Weighted // for the one
	users  int
}

func newAnswers() *answers { return &answers{namespaces: map[string]*namespaceAnswers{}} }

// namespaceOf and answerKey are the keys of a context's namespace and answerMemory.
type (
	namespaceOf struct{}
	answerKey   struct{}
)

// withNamespace says on whose behalf everything is asked in a context.
func withNamespace(ctx context.Context, namespace string) context.Context {
	return context.WithValue(ctx, namespaceOf{}, namespace)
}

// withoutAnswers gives a context for a call that others wait for, too, and that may outlive the one around it.
func withoutAnswers(ctx context.Context) context.Context {
	return context.WithValue(ctx, answerKey{}, nil)
}

// answerMemory is what the answers to one call have of their namespace's memory.
type answerMemory struct {
	of *namespaceAnswers

	mu    sync.Mutex
	held  int64
	long  bool        // it is the one that may become longer
	stall *time.Timer // ends both
}

// call gives a context in which the answers to one call are counted for the namespace, and the end of the call: then they
// have been understood, and what is kept of them is counted elsewhere.
func (a *answers) call(ctx context.Context) (_ context.Context, end func()) {
	namespace, _ := ctx.Value(namespaceOf{}).(string)
	a.mu.Lock()
	defer a.mu.Unlock()
	n, ok := a.namespaces[namespace]
	if !ok {
		n = &namespaceAnswers{bytes: semaphore.NewWeighted(answerBytes), longer: semaphore.NewWeighted(1)}
		a.namespaces[namespace] = n
	}
	n.users++
	m := &answerMemory{of: n}
	return context.WithValue(ctx, answerKey{}, m), func() {
		m.release()
		a.mu.Lock()
		defer a.mu.Unlock()
		if n.users--; n.users == 0 {
			delete(a.namespaces, namespace)
		}
	}
}

// answerMemoryOf gives the memory of the call that ctx is of; nil when it is not counted.
func answerMemoryOf(ctx context.Context) *answerMemory {
	m, _ := ctx.Value(answerKey{}).(*answerMemory)
	return m
}

// reserve waits until an answer of so many bytes may be read; a negative number means that it is not known. An earlier
// answer to the same call has been dealt with: the SDK tries again, or logs in.
func (m *answerMemory) reserve(ctx context.Context, bytes int64) error {
	m.release()
	if bytes < 0 {
		bytes = unknownAnswer
	}
	bytes = min(max(bytes, leastAnswer), answerBytes)
	if err := m.of.bytes.Acquire(ctx, bytes); err != nil {
		return err
	}
	m.hold(bytes, false)
	return nil
}

// grow waits until an answer of which so many bytes have come may become longer, if that is more than was reserved for it.
// It asks for no more after that, so that no two wait for each other; maxBody bounds it.
func (m *answerMemory) grow(ctx context.Context, come int64) error {
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

func (m *answerMemory) hold(bytes int64, long bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held += bytes
	m.long = m.long || long
	if m.stall != nil {
		m.stall.Stop()
	}
	m.stall = time.AfterFunc(stalledAnswer, m.release)
}

func (m *answerMemory) release() {
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
