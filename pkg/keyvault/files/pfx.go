package files

import (
	"context"

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/certificate"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// protect makes the files of the objects whose PKCS#12 file has a password. It runs after all reads, because the password is
// one of them: so a volume never has a file with another version of the password than the one that it has beside it.
func (s *Set) protect(ctx context.Context) error {
	for i, object := range s.objects {
		o, there := s.made[&s.objects[i]]
		if object.Password == nil || !there {
			continue
		}
		from, there := s.made[object.Password]
		if !there {
			return volume.Errorf(volume.ErrNotFound, "%s: the certificate is there and its password is not, or is disabled; create or enable it",
				label(*object.Password))
		}
		password, err := certificate.Password(from.password)
		if err != nil {
			return volume.Errorf(volume.ErrPrecondition, "%s %w", label(*object.Password), err)
		}
		if o.files, err = s.filesOf(ctx, &s.objects[i], o.source, o.value, extras{password: password}); err != nil {
			return err
		}
		s.made[&s.objects[i]] = o
	}
	return nil
}

// pfx returns the PKCS#12 file of a certificate, with slow key derivations if it has to be made.
func (s *Set) pfx(ctx context.Context, o volume.Object, bundle *certificate.Bundle, password volume.Secret) (data []byte, err error) {
	if o.Password == nil {
		if !bundle.HasPFX(o.ChainOrder) {
			err = s.decoders.Run(ctx, s.request.Pod.Namespace, func() error {
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
	err = s.decoders.Run(ctx, s.request.Pod.Namespace, func() error {
		data, err := bundle.Protect(o.ChainOrder, p)
		made <- data
		return err
	})
	if err != nil {
		return nil, err
	}
	return <-made, nil
}
