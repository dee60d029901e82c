package azure

import (
	"context"
	"slices"
)

type refreshKey struct{}

type reservedKey struct{}

// WithRefresh marks the requests of a refresh. They wait for the pace after those of first mounts.
func WithRefresh(ctx context.Context) context.Context {
	return context.WithValue(ctx, refreshKey{}, true)
}

// WithReserved marks a call for which [Throttle.Reserve] has taken the turn.
func WithReserved(ctx context.Context) context.Context {
	return context.WithValue(ctx, reservedKey{}, true)
}

// line is the order of the requests that wait for the pace of a throttle, whose lock guards it.
type line struct{ mounts, refreshes []*ticket }

// ticket is one of them.
type ticket struct {
	refresh bool
	call    chan struct{} // gets an element when the ticket may have become the first
}

// called is a channel that gets an element when the turn may have come. A nil ticket waits for no turn.
func (t *ticket) called() <-chan struct{} {
	if t == nil {
		return nil
	}
	return t.call
}

// join adds a request, unless it is in the line or there is no limit.
func (l *line) join(ctx context.Context, own *ticket, limited bool) *ticket {
	if own != nil || !limited {
		return own
	}
	own = &ticket{refresh: ctx.Value(refreshKey{}) != nil, call: make(chan struct{}, 1)}
	if own.refresh {
		l.refreshes = append(l.refreshes, own)
	} else {
		l.mounts = append(l.mounts, own)
	}
	return own
}

func (l *line) empty() bool { return len(l.mounts) == 0 && len(l.refreshes) == 0 }

// first is the request that is sent next; nil if none waits.
func (l *line) first() *ticket {
	switch {
	case len(l.mounts) > 0:
		return l.mounts[0]
	case len(l.refreshes) > 0:
		return l.refreshes[0]
	default:
		return nil
	}
}

// leave takes a request out of the line, and calls the one that is first then.
func (l *line) leave(own *ticket) {
	if own == nil {
		return
	}
	is := func(t *ticket) bool { return t == own }
	l.mounts, l.refreshes = slices.DeleteFunc(l.mounts, is), slices.DeleteFunc(l.refreshes, is)
	if next := l.first(); next != nil {
		select {
		case next.call <- struct{}{}:
		default:
		}
	}
}

// Reserve takes the turn of a request that may be left out, and reports whether it may be sent: not while a first mount waits, nor beyond
// the pace. A closed throttle grants what it will let pass when it opens. The call needs [WithReserved].
func (t *Throttle) Reserve() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pace.pass(t.now())
	if !t.pace.limited() {
		return true
	}
	if len(t.line.mounts) > 0 || t.pace.tokens < 1 {
		return false
	}
	t.pace.tokens--
	t.pace.reserved++
	return true
}

// Return gives back a turn that [Throttle.Reserve] has taken, and for which no request was sent.
func (t *Throttle) Return() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pace.reserved > 0 { // a refusal has not ended it
		t.pace.reserved--
		t.pace.tokens++
	}
}

// Reason returns the last answer that closed the throttle; nil if none did.
func (t *Throttle) Reason() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reason
}

// Rate returns how many requests a second this node may send; 0 means that there is no limit.
func (t *Throttle) Rate() float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pace.rate
}
