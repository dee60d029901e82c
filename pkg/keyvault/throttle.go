package keyvault

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// perVault bounds the requests to one vault at the same time. It is that of the connections, so that no request
// stands in line where nobody asks whether the vault still wants it.
const perVault = connsPerHost

// gate stands before one vault and lets no request through that the vault has asked not to send: a throttled vault
// counts the requests of all identities together, and those that it refuses keep it busy too.
//
// It closes with the first 429, or other failure that has a Retry-After, until that time has passed and a little more,
// by chance, so that the nodes of a cluster do not all come back at once. Then it lets one request through, and with
// each that is dealt with one more at the same time.
type gate struct {
	now   func() time.Time
	after func(time.Duration) <-chan time.Time

	mu         sync.Mutex
	until      time.Time     // no request before
	reason     *answer       // what closed it last
	closed     chan struct{} // closed, and made anew, when the gate closes
	generation int           // counts the closings
	strikes    int           // closings without a success between them
	limit      int           // requests at the same time
	inside     int
	queue      []chan bool // of those that wait for others to leave; true hands over a place
}

func newGate(now func() time.Time, after func(time.Duration) <-chan time.Time) *gate {
	return &gate{now: now, after: after, limit: perVault, closed: make(chan struct{})}
}

// gates are those of all vaults.
type gates struct {
	now   func() time.Time
	after func(time.Duration) <-chan time.Time

	mu   sync.Mutex
	seen map[string]*idle[*gate] // by vault
}

func (g *gates) of(vault string) *gate {
	g.mu.Lock()
	defer g.mu.Unlock()
	known, ok := g.seen[vault]
	if !ok {
		known = &idle[*gate]{value: newGate(g.now, g.after)}
		g.seen[vault] = known
	}
	return known.use(g.now())
}

// sweep drops the gates that nobody has used since before, and, when the calls that have used them are over, those that stand
// open and know nothing: a pod can name any vault, and each time another.
func (g *gates) sweep(before time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	sweep(g.seen, before)
	calls := g.now().Add(-callTime)
	for vault, known := range g.seen {
		if known.used.Before(calls) && known.value.unused() {
			delete(g.seen, vault)
		}
	}
}

// unused says that a new gate would do as well.
func (g *gate) unused() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inside == 0 && len(g.queue) == 0 && g.strikes == 0 && g.limit == perVault && !g.now().Before(g.until)
}

// turn is one call's way through the gate; the transport finds it in the request's context.
type turn struct {
	gate       *gate
	generation int
	refused    atomic.Bool // the gate closed upon this call, or before it could send its request
}

type turnKey struct{}

// through makes one call to the vault as soon as it may be made, and again when it was throttled, as long as ctx lasts.
func (g *gate) through(ctx context.Context, call func(context.Context) error) error {
	for {
		t, err := g.enter(ctx)
		if err != nil {
			return err
		}
		err = call(context.WithValue(ctx, turnKey{}, t))
		g.leave(t, !t.refused.Load() && dealtWith(err))
		if !t.refused.Load() {
			return err
		}
	}
}

// dealtWith says that the vault has looked at a request. A 403 or a 404 is as good a sign as a value that it no longer
// throttles, and may be all that it has to say for hours.
func dealtWith(err error) bool {
	said, ok := errors.AsType[*answer](err)
	return err == nil || ok && !said.entra && !retriable(said.status)
}

// shut says until when no request is sent and why, and gives a channel that is closed when that changes for the worse.
// reason is nil while the gate is open.
func (g *gate) shut() (wait time.Duration, reason *answer, worse <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if wait = g.until.Sub(g.now()); wait <= 0 {
		return 0, nil, g.closed
	}
	return wait, g.reason, g.closed
}

// throttled says why requests still stand in line after the vault has throttled; nil when it is not that.
func (g *gate) throttled() *answer {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.strikes == 0 && !g.now().Before(g.until) {
		return nil
	}
	return g.reason
}

func (g *gate) enter(ctx context.Context) (*turn, error) {
	for {
		g.mu.Lock()
		wait := g.until.Sub(g.now())
		if wait <= 0 && len(g.queue) == 0 && g.inside < g.limit {
			g.inside++
			t := &turn{gate: g, generation: g.generation}
			g.mu.Unlock()
			return t, nil
		}
		if wait > 0 {
			g.mu.Unlock()
			select {
			case <-g.after(wait):
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		place := make(chan bool, 1)
		g.queue = append(g.queue, place)
		g.mu.Unlock()
		if t, err := g.stand(ctx, place); t != nil || err != nil {
			return t, err
		}
	}
}

// stand waits in the queue for a place; no turn and no error mean that the gate has closed meanwhile.
func (g *gate) stand(ctx context.Context, place chan bool) (*turn, error) {
	select {
	case handed := <-place:
		if !handed {
			return nil, nil
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		return &turn{gate: g, generation: g.generation}, nil
	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		for i, other := range g.queue {
			if other == place {
				g.queue = append(g.queue[:i], g.queue[i+1:]...)
				return nil, ctx.Err()
			}
		}
		if <-place { // handed over at the same moment
			g.inside--
			g.admit()
		}
		return nil, ctx.Err()
	}
}

func (g *gate) leave(t *turn, dealtWith bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if dealtWith && t.generation == g.generation {
		g.strikes = 0
		g.limit = min(g.limit+1, perVault)
	}
	g.admit()
}

// admit hands free places to those who stand first. The caller holds g.mu.
func (g *gate) admit() {
	for len(g.queue) > 0 && g.inside < g.limit && !g.now().Before(g.until) {
		g.inside++
		g.queue[0] <- true
		g.queue = g.queue[1:]
	}
}

// turnOf gives the turn of a request; nil when it has none.
func turnOf(ctx context.Context) *turn {
	t, _ := ctx.Value(turnKey{}).(*turn)
	return t
}

// refusal is the answer that the vault would give to a request now; nil when it can be sent.
func (t *turn) refusal() *answer {
	if t == nil {
		return nil
	}
	wait, reason, _ := t.gate.shut()
	if wait <= 0 {
		return nil
	}
	t.refused.Store(true)
	if reason == nil {
		reason = &answer{status: http.StatusTooManyRequests}
	}
	return reason
}

// heard closes the gate if the answer asks for it.
func (t *turn) heard(resp *http.Response) {
	if t == nil || resp == nil {
		return
	}
	pause, named := retryAfter(resp.Header, t.gate.now())
	if !throttles(resp.StatusCode, named) {
		return
	}
	t.refused.Store(true)
	t.gate.close(t.generation, pause, named)
	// The body is read only now: it may be slow.
	reason := &answer{status: resp.StatusCode}
	if response, ok := errors.AsType[*azcore.ResponseError](runtime.NewResponseError(resp)); ok {
		reason = vaultAnswer(response)
	}
	t.gate.say(reason)
}

// close shuts the gate. Requests that were on their way together are refused together; only the first of them counts as
// a strike.
func (g *gate) close(generation int, pause time.Duration, named bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if generation == g.generation {
		g.generation++
		g.strikes++
		g.limit = 1
	}
	if !named || g.strikes > 1 {
		pause = max(pause, backOff(g.strikes))
	}
	if until := g.now().Add(spaced(pause)); until.After(g.until) {
		g.until = until
	}
	for _, place := range g.queue {
		place <- false
	}
	g.queue = nil
}

// say tells those who wait why.
func (g *gate) say(reason *answer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reason = reason
	close(g.closed)
	g.closed = make(chan struct{})
}
