package keyvault

import (
	"bytes"
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
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/vault"
)

// decodeTimeout is how long a caller waits for a decoding. An ordinary one takes milliseconds.
const decodeTimeout = 10 * time.Second

var (
	errGivenUp    = fmt.Errorf("takes longer than %v to decode; issue it with an ordinary key and fewer CAs", decodeTimeout)
	errUnreadable = errors.New("is not readable")
)

// decoders run work whose time depends on what tenants wrote: the size of numbers, chains, and key derivations. No
// library can be interrupted, so few decodings run at the same time, and one per namespace. A namespace waits for at
// most one decoding of another. A decoding that was given up keeps its slot until it ends.
type decoders struct {
	node    *semaphore.Weighted
	timeout time.Duration
	begun   atomic.Int64 // total number of decodings

	mu         sync.Mutex
	namespaces map[string]*namespaceDecoder
}

type namespaceDecoder struct {
	slot  *semaphore.Weighted
	users int
}

func newDecoders() *decoders {
	return &decoders{
		node:    semaphore.NewWeighted(int64(max(1, runtime.GOMAXPROCS(0)/2))),
		timeout: decodeTimeout, namespaces: map[string]*namespaceDecoder{},
	}
}

// run does the work in a goroutine when there is a slot. The error is the one of work, errGivenUp, errUnreadable
// after a panic, or the error of ctx.
func (d *decoders) run(ctx context.Context, namespace string, work func() error) error {
	release, err := d.acquire(ctx, namespace)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	d.begun.Add(1)
	go func() {
		defer release()
		err := azure.Guarded(work)
		if errors.Is(err, azure.ErrPanic) {
			err = errUnreadable
		}
		done <- err
	}()
	late := time.NewTimer(d.timeout)
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
func (d *decoders) acquire(ctx context.Context, namespace string) (release func(), err error) {
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

// clientCertificate parses a client certificate for package login.
func (d *decoders) clientCertificate(ctx context.Context, namespace string, content, password []byte) (
	chain []*x509.Certificate, key crypto.PrivateKey, final bool, err error,
) {
	type parsed struct {
		chain []*x509.Certificate
		key   crypto.PrivateKey
	}
	result := make(chan parsed, 1)
	err = d.run(ctx, namespace, func() error {
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

// decoded is the decoded certificate of a value. Values with the same content share it, so that an unchanged
// certificate is decoded once.
type decoded struct {
	mu     sync.Mutex
	bundle *certificate.Bundle
	err    error // why it cannot be used
	late   bool  // its decoding was given up, and may still run
}

func (d *decoded) get() (*certificate.Bundle, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bundle == nil && d.err == nil && d.late {
		return nil, errGivenUp
	}
	return d.bundle, d.err
}

func (d *decoded) set(bundle *certificate.Bundle, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bundle, d.err = bundle, err
}

func (d *decoded) giveUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.late = true
}

// split returns the decoded certificate of a value. It decodes it at most once.
func (d *decoders) split(ctx context.Context, namespace string, v *value) (*certificate.Bundle, error) {
	if v.DER != nil {
		return certificate.FromDER(v.DER), nil
	}
	return d.once(ctx, namespace, v.decoded, func() (*certificate.Bundle, error) {
		return certificate.Split(v.ContentType, v.Secret.Reveal())
	})
}

// once returns the decoded certificate, or does the work. While work that was given up still runs, the error is
// errGivenUp.
func (d *decoders) once(ctx context.Context, namespace string, known *decoded, work func() (*certificate.Bundle, error)) (*certificate.Bundle, error) {
	if bundle, err := known.get(); bundle != nil || err != nil {
		return bundle, err
	}
	err := d.run(ctx, namespace, func() error {
		if bundle, err := known.get(); bundle != nil || err != nil { // another caller has done it meanwhile
			return err
		}
		bundle, err := work()
		known.set(bundle, err)
		return err
	})
	if errors.Is(err, errGivenUp) {
		known.giveUp()
	}
	if err != nil {
		return nil, err
	}
	return known.get()
}

// sameContent reports whether another value decodes to the same certificate.
func (v *value) sameContent(other *vault.Value) bool {
	return v.ContentType == other.ContentType && bytes.Equal(v.Secret.Reveal(), other.Secret.Reveal()) && bytes.Equal(v.DER, other.DER)
}

// Size is the approximate size in bytes, with the bundle, which has a copy of each part of the certificate.
func (v *value) Size() int {
	if certificate.IsContent(v.ContentType) {
		return v.Value.Size() + 2*len(v.Secret.Reveal())
	}
	return v.Value.Size()
}
