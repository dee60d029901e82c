package decode

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/certificate"
)

// timeout is how long a caller waits for a decoding. An ordinary one takes milliseconds.
const timeout = 10 * time.Second

var (
	errGivenUp    = fmt.Errorf("takes longer than %v to decode; issue it with an ordinary key and fewer CAs", timeout)
	errUnreadable = errors.New("is not readable")
)

// Decoders run work whose time depends on what tenants wrote: the size of numbers, chains, and key derivations. No
// library can be interrupted, so few decodings run at the same time, and one per namespace. A namespace waits for at
// most one decoding of another. A decoding that was given up keeps its slot until it ends.
type Decoders struct {
	Begun atomic.Int64 // total number of decodings

	node *semaphore.Weighted

	mu         sync.Mutex
	namespaces map[string]*namespaceDecoder
}

type namespaceDecoder struct {
	slot  *semaphore.Weighted
	users int
}

// New makes decoders that use at most half of the CPUs.
func New() *Decoders {
	return &Decoders{node: semaphore.NewWeighted(int64(max(1, runtime.GOMAXPROCS(0)/2))), namespaces: map[string]*namespaceDecoder{}}
}

// Run does the work in a goroutine when there is a slot. The error is that of work, errGivenUp, errUnreadable after a
// panic, or that of ctx.
func (d *Decoders) Run(ctx context.Context, namespace string, work func() error) error {
	release, err := d.acquire(ctx, namespace)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	d.Begun.Add(1)
	go func() {
		defer release()
		err := azure.Guarded(work)
		if errors.Is(err, azure.ErrPanic) {
			err = errUnreadable
		}
		done <- err
	}()
	late := time.NewTimer(timeout)
	defer late.Stop()
	select {
	case err := <-done:
		return err
	case <-late.C:
		return errGivenUp
	case <-ctx.Done():
		return ctx.Err()
	}
}

// acquire waits for the slot of the namespace, then for one of the node. The node's slots are given in order of
// arrival.
func (d *Decoders) acquire(ctx context.Context, namespace string) (release func(), err error) {
	d.mu.Lock()
	n, ok := d.namespaces[namespace]
	if !ok {
		n = &namespaceDecoder{slot: semaphore.NewWeighted(1)}
		d.namespaces[namespace] = n
	}
	n.users++
	d.mu.Unlock()
	leave := func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if n.users--; n.users == 0 {
			delete(d.namespaces, namespace)
		}
	}
	if err := n.slot.Acquire(ctx, 1); err != nil {
		leave()
		return nil, err
	}
	if err := d.node.Acquire(ctx, 1); err != nil {
		n.slot.Release(1)
		leave()
		return nil, err
	}
	return func() {
		d.node.Release(1)
		n.slot.Release(1)
		leave()
	}, nil
}

// ClientCertificate parses a client certificate for package login.
func (d *Decoders) ClientCertificate(ctx context.Context, namespace string, content, password []byte) (
	chain []*x509.Certificate, key crypto.PrivateKey, final bool, err error,
) {
	type parsed struct {
		chain []*x509.Certificate
		key   crypto.PrivateKey
	}
	result := make(chan parsed, 1)
	err = d.Run(ctx, namespace, func() error {
		chain, key, err := certificate.ParseClient(content, password)
		result <- parsed{chain, key}
		return err
	})
	switch {
	case err == nil:
		p := <-result
		return p.chain, p.key, true, nil
	case errors.Is(err, errGivenUp), errors.Is(err, errUnreadable):
		return nil, nil, errors.Is(err, errUnreadable), &azure.Own{Err: certificate.Unusable(err.Error())}
	case ctx.Err() != nil:
		return nil, nil, false, &azure.Unreached{
			Host: "this node", Why: "it decodes other certificates first", Hint: "wait, or spread their pods over more nodes",
		}
	default:
		return nil, nil, true, &azure.Own{Err: err}
	}
}
