package keyvault

import (
	"context"

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/certificate"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// protect makes the files of the objects whose PKCS#12 file has a password. It runs after all reads, because the password is
// one of them: so a volume never has a file with another version of the password than the one that it has beside it.
func (f *fetch) protect(ctx context.Context, objects []volume.Object, outputs []output) error {
	for i, object := range objects {
		o := outputs[i]
		if object.Password == nil || o.read.absent {
			continue
		}
		if o.password.absent {
			return volume.Errorf(volume.ErrNotFound, "%s: the certificate is there and its password is not, or is disabled; create or enable it",
				label(*object.Password))
		}
		password, err := certificate.Password(*o.password.password)
		if err != nil {
			return volume.Errorf(volume.ErrPrecondition, "%s %w", label(*object.Password), err)
		}
		if err := f.acceptObject(ctx, o.read, o.index, o.read.value, extras{password: password}); err != nil {
			return err
		}
	}
	return nil
}

// pfx returns the PKCS#12 file of a certificate, with slow key derivations if it has to be made.
func (f *fetch) pfx(ctx context.Context, o volume.Object, bundle *certificate.Bundle, password volume.Secret) (data []byte, err error) {
	if o.Password == nil {
		if !bundle.HasPFX(o.ChainOrder) {
			err = f.decoders.Run(ctx, f.Pod.Namespace, func() error {
				_, err := bundle.Part(volume.PartPFX, o.ChainOrder, o.KeyFormat)
				return err
			})
		}
		if err != nil {
			return nil, err
		}
		return bundle.Part(volume.PartPFX, o.ChainOrder, o.KeyFormat)
	}
	p := certificate.Protection{Password: password, Profile: o.PFXProfile, Alias: o.Name}
	if data, ok := bundle.Protected(o.ChainOrder, p); ok {
		return data, nil
	}
	made := make(chan []byte, 1) // the work may outlive the call
	err = f.decoders.Run(ctx, f.Pod.Namespace, func() error {
		data, err := bundle.Protect(o.ChainOrder, p)
		made <- data
		return err
	})
	if err != nil {
		return nil, err
	}
	return <-made, nil
}
