package decode

import (
	"context"
	"errors"
	"sync"

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/certificate"
)

// Certificate is the decoded certificate of a value, once it was needed. Values with the same content share it, so that an
// unchanged certificate is decoded once. The zero value is ready for use.
type Certificate struct {
	mu     sync.Mutex
	bundle *certificate.Bundle
	err    error // why it cannot be used
	late   bool  // its decoding was given up, and may still run
}

func (c *Certificate) get() (*certificate.Bundle, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bundle == nil && c.err == nil && c.late {
		return nil, errGivenUp
	}
	return c.bundle, c.err
}

func (c *Certificate) set(bundle *certificate.Bundle, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bundle, c.err = bundle, err
}

func (c *Certificate) giveUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.late = true
}

// Split returns the decoded certificate of a value, see [certificate.Split]. It decodes it at most once.
func (d *Decoders) Split(ctx context.Context, namespace string, known *Certificate, contentType string, content []byte) (*certificate.Bundle, error) {
	return d.once(ctx, namespace, known, func() (*certificate.Bundle, error) { return certificate.Split(contentType, content) })
}

// once returns the decoded certificate, or does the work. While work that was given up still runs, the error is
// errGivenUp.
func (d *Decoders) once(ctx context.Context, namespace string, known *Certificate, work func() (*certificate.Bundle, error)) (*certificate.Bundle, error) {
	if bundle, err := known.get(); bundle != nil || err != nil {
		return bundle, err
	}
	err := d.Run(ctx, namespace, func() error {
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
