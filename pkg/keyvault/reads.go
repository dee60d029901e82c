package keyvault

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// callFunc asks a vault for an object.
type callFunc func(*Client, context.Context, *session, volume.Object) (*got, error)

// read is one request to a vault on behalf of one or several objects.
type read struct {
	key      readKey
	objects  []*volume.Object // that need it
	speaker  int              // errors speak of this one
	optional bool             // nobody minds if it is not there
	call     callFunc         // not of a list

	entry    *entry          // of the cache
	at       time.Time       // just before it was asked
	absent   bool            // there is no such object, or it is disabled
	names    []string        // of a list
	files    [][]volume.File // of each object
	notAfter time.Time       // of a certificate
	decoded  []*decoded      // of a certificate, for the volume to hold
	outage   error           // why the files are of the last known value and not of what the vault has now
	err      error
}

func (r *read) object() volume.Object { return *r.objects[r.speaker] }

// The interfaces of a vault, and what is none but costs as much: the list of its secrets.
const (
	interfaceSecrets      = "secrets"
	interfaceCertificates = "certificates"
	interfaceKeys         = "keys"
	interfaceList         = "list"
)

type readKey struct {
	vault, interfaceName, name, version string
}

// place is where the files of an object are: those of the object at an index of a read.
type place struct {
	read  *read
	index int
}

// plan gives the distinct reads in the order in which the objects first need them, and the place of each object's files.
func plan(objects []volume.Object) (reads []*read, places []place) {
	known := make(map[readKey]*read, len(objects))
	reads, places = make([]*read, 0, len(objects)), make([]place, 0, len(objects))
	for i := range objects {
		object := &objects[i]
		// Clones, because names and versions are parts of attributes, which would stay in memory as long as the key.
		name, version := strings.Clone(strings.ToLower(object.Name)), strings.Clone(object.Version)
		key := readKey{object.Vault, interfaceSecrets, name, version}
		call := (*Client).getSecret
		switch object.Kind {
		case volume.KindPublicCertificate:
			key.interfaceName, call = interfaceCertificates, (*Client).getCertificate
		case volume.KindKey:
			key.interfaceName, call = interfaceKeys, (*Client).getKey
		}
		r, ok := known[key]
		if !ok {
			r = &read{key: key, optional: true, call: call}
			known[key] = r
			reads = append(reads, r)
		}
		if r.optional && !object.Optional {
			r.speaker, r.optional = len(r.objects), false // the one that minds is the one to speak of
		}
		places = append(places, place{r, len(r.objects)})
		r.objects = append(r.objects, object)
	}
	return reads, places
}

// run does the reads that the cache does not answer, some at a time. When one fails, those after it are given up,
// those before it are not: so the error is always that of the first read that fails, whichever happens to fail first.
// Only a volume that is too large ends all of them.
func (c *Client) run(ctx context.Context, e *errand, reads []*read) error {
	left := c.served(ctx, e, reads)
	if c.spread(ctx, e, left) {
		left = c.served(ctx, e, left)
	}
	all, cancelAll := context.WithCancel(ctx)
	defer cancelAll()
	if errors.Is(firstError(reads), volume.ErrTooLarge) {
		return firstError(reads)
	}
	under := running{cancels: map[int]context.CancelFunc{}, failed: len(left)}
	var group errgroup.Group
	group.SetLimit(perVolume)
	for i, r := range left {
		ctx, wanted := under.begin(all, i)
		if !wanted {
			break
		}
		done, err := e.mayRead(ctx, r.key.vault)
		if err != nil {
			r.err = err
			under.end(i, true)
			break
		}
		group.Go(func() error {
			defer done()
			r.err = c.attend(ctx, e, r)
			under.end(i, r.err != nil)
			if errors.Is(r.err, volume.ErrTooLarge) {
				cancelAll()
			}
			return nil
		})
	}
	_ = group.Wait() // the reads hold their errors
	return firstError(reads)
}

// running are the reads of a volume that are under way, by their place in the volume's order.
type running struct {
	mu      sync.Mutex
	cancels map[int]context.CancelFunc
	failed  int // the first that has failed
}

// begin gives the context of a read, unless one before it has failed.
func (u *running) begin(parent context.Context, i int) (_ context.Context, wanted bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if i > u.failed {
		return nil, false
	}
	ctx, cancel := context.WithCancel(parent)
	u.cancels[i] = cancel
	return ctx, true
}

// end gives up, after a failure, those that come after.
func (u *running) end(i int, failed bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.cancels[i]()
	delete(u.cancels, i)
	if !failed || i > u.failed {
		return
	}
	u.failed = i
	for other, cancel := range u.cancels {
		if other > i {
			cancel()
		}
	}
}

// attend is do on a goroutine of its own, where a panic would end the process and is to be one object's trouble.
func (c *Client) attend(ctx context.Context, e *errand, r *read) error {
	err := guarded(func() error { return c.do(ctx, e, r) })
	if errors.Is(err, errPanic) {
		return c.explain(ctx, e, r.object(), &failure{err: errPanic, waited: theVault})
	}
	return err
}

// firstError prefers a refusal to a context that ended: the refusal is what there is to repair.
func firstError(reads []*read) error {
	var ended error
	for _, r := range reads {
		switch {
		case r.err == nil:
		case !errors.Is(r.err, context.Canceled) && !errors.Is(r.err, context.DeadlineExceeded):
			return r.err
		case ended == nil:
			ended = r.err
		}
	}
	return ended
}
