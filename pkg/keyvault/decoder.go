package keyvault

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"
)

const (
	// decodeTimeout is after how long nobody waits for a decoding any more, which takes milliseconds.
	decodeTimeout = 10 * time.Second
	// decodedBytes bounds what is kept of decodings: some 1,000 certificates with an RSA key and two CAs.
	decodedBytes = 4 << 20
	// decodedEntry is what an entry costs beside its bytes, measured and rounded up.
	decodedEntry = 512
	// failureTime is how long a failed decoding is remembered that nobody asks for. The kubelet asks every two minutes.
	failureTime = 10 * time.Minute
)

// decoder decodes what tenants wrote, who choose how long that takes: by the size of numbers, by chains and, up to
// maxIterations, by key derivations. No library lets itself be interrupted. So there are so many decodings at a time, by
// turns of the namespaces; one that is given up has its turn until it ends; and the same content is decoded once, be it
// good or bad, for as long as a volume has what it became. The namespaces share nothing, and the room of one that keeps
// most is what others get when there is not enough.
type decoder struct {
	now     func() time.Time
	timeout time.Duration
	limit   int // of bytes
	turns   *turns

	mu      sync.Mutex // held for a look into the maps, never while somebody waits
	known   map[contentKey]*decoded
	running map[contentKey]*decoding
	bytes   int
	shares  map[string]int // of bytes, by namespace
	begun   int            // decodings, ever
	swept   time.Time
}

// decoded is how a decoding ended. Exactly one of value and err is set, unless it has been forgotten.
type decoded struct {
	key   contentKey
	value []byte // sealed
	err   error
	bytes int
	used  time.Time
	held  int // by so many volumes
}

// kept is a value that is to be remembered.
type kept []byte

// decoding is one that runs.
type decoding struct {
	done, late chan struct{}
	value      any // once done is closed
	err        error
	entry      *decoded // nil when it is not kept
}

func newDecoder(now func() time.Time) *decoder {
	return &decoder{
		now: now, timeout: decodeTimeout, limit: decodedBytes, turns: newTurns(max(1, runtime.GOMAXPROCS(0)/2)),
		known: map[contentKey]*decoded{}, running: map[contentKey]*decoding{}, shares: map[string]int{},
	}
}

// once gives what work makes of a content, and does not work where that is known or under way. The entry is for volumes to
// hold; nil when nothing is remembered. The error is that of work, errGivenUp, or that of ctx.
func (d *decoder) once(ctx context.Context, about content, work func() (any, error)) (value any, entry *decoded, err error) {
	sealed, entry, run, err := d.find(about.contentKey)
	switch {
	case err != nil:
		return nil, entry, err
	case entry != nil:
		plain, err := about.opened(sealed)
		return kept(plain), entry, err
	case run == nil:
		if err := d.turns.take(ctx, about.namespace); err != nil {
			return nil, nil, err
		}
		if run = d.start(about, work); run == nil { // another has been faster
			d.turns.give()
			return d.once(ctx, about, work)
		}
	}
	select {
	case <-run.done:
		return run.value, run.entry, run.err
	case <-run.late:
		return nil, nil, errGivenUp
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// find gives what is known, or the decoding that runs.
func (d *decoder) find(key contentKey) (sealed []byte, entry *decoded, run *decoding, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e, ok := d.known[key]; ok {
		e.used = d.now()
		return e.value, e, nil, e.err
	}
	return nil, nil, d.running[key], nil
}

// start works beside the callers, unless that is known or under way. The turn is given back when the work is done.
func (d *decoder) start(about content, work func() (any, error)) *decoding {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := about.contentKey
	if d.known[key] != nil || d.running[key] != nil {
		return nil
	}
	run := &decoding{done: make(chan struct{}), late: make(chan struct{})}
	d.running[key] = run
	d.begun++
	timer := time.AfterFunc(d.timeout, func() { close(run.late) })
	go func() {
		defer d.turns.give()
		err := guarded(func() (err error) {
			run.value, err = work()
			return err
		})
		if errors.Is(err, errPanic) {
			err = errUnreadable
		}
		timer.Stop()
		if run.err = err; err != nil {
			run.value = nil
		}
		d.finish(about, run)
	}()
	return run
}

// finish remembers how a decoding ended.
func (d *decoder) finish(about content, run *decoding) {
	run.entry = &decoded{key: about.contentKey, err: run.err, bytes: decodedEntry, used: d.now()}
	value, worth := run.value.(kept)
	if worth {
		run.entry.value = about.sealed(value)
		run.entry.bytes += len(run.entry.value)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.running, about.contentKey)
	if !worth && run.err == nil || !d.keep(run.entry) {
		run.entry = nil
	}
	close(run.done)
}

// keep takes an entry in if there is room, or can be made at the cost of a namespace that has more. One that has more than
// there is room for keeps what it has: if each new entry would push out another, none would be found when it is asked for
// again. The caller holds mu.
func (d *decoder) keep(e *decoded) bool {
	if now := d.now(); now.Sub(d.swept).Abs() >= sweepPause || d.bytes+e.bytes > d.limit {
		d.sweep(now)
	}
	for d.bytes+e.bytes > d.limit {
		namespace, most := e.key.namespace, d.shares[e.key.namespace]+e.bytes
		for other, bytes := range d.shares {
			if bytes > most {
				namespace, most = other, bytes
			}
		}
		if namespace == e.key.namespace {
			return false
		}
		d.forget(d.oldest(namespace))
	}
	d.known[e.key] = e
	d.bytes += e.bytes
	d.shares[e.key.namespace] += e.bytes
	return true
}

// oldest gives the entry of a namespace that was used longest ago. The caller holds mu.
func (d *decoder) oldest(namespace string) (oldest *decoded) {
	for _, e := range d.known {
		if e.key.namespace == namespace && (oldest == nil || e.used.Before(oldest.used)) {
			oldest = e
		}
	}
	return oldest
}

// forget drops an entry, which volumes may hold still. The caller holds mu.
func (d *decoder) forget(e *decoded) {
	delete(d.known, e.key)
	d.bytes -= e.bytes
	if d.shares[e.key.namespace] -= e.bytes; d.shares[e.key.namespace] <= 0 {
		delete(d.shares, e.key.namespace)
	}
	e.value = nil
}

// sweep forgets what no volume holds and nobody has asked for lately. The caller holds mu.
func (d *decoder) sweep(now time.Time) {
	d.swept = now
	for _, e := range d.known {
		lasts := callTime
		if e.err != nil {
			lasts = failureTime
		}
		if e.held == 0 && now.Sub(e.used).Abs() >= lasts {
			d.forget(e)
		}
	}
}

// tidy sweeps, and gives about how many bytes that were.
func (d *decoder) tidy() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.bytes
	d.sweep(d.now())
	return before - d.bytes
}

// hold counts a volume that has been given what these became.
func (d *decoder) hold(entries []*decoded) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range entries {
		e.held++
	}
}

// release is the opposite of hold.
func (d *decoder) release(entries []*decoded) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range entries {
		e.held--
	}
}
