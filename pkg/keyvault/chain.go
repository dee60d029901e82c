package keyvault

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"slices"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// leafFirst moves the certificate whose public key is that of the private key to the front, wherever it stands in the
// file: a vault's own PFX goes from the root to the leaf, an imported one in any order. The rest keeps its order. With a
// key that Go cannot read, the first certificate is taken to be the leaf.
func leafFirst(key privateKey, certs []certificate) ([]certificate, error) {
	signer, ok := key.parsed.(interface{ Public() crypto.PublicKey })
	if !ok {
		return certs, nil
	}
	public, ok := signer.Public().(interface {
		Equal(other crypto.PublicKey) bool
	})
	if !ok {
		return certs, nil
	}
	for i, cert := range certs {
		if cert.parsed != nil && public.Equal(cert.parsed.PublicKey) {
			leaf := []certificate{cert}
			return append(append(leaf, certs[:i]...), certs[i+1:]...), nil
		}
	}
	return nil, errNoLeaf
}

// ordered gives the leaf and then the others in the order that was asked for. certs has the leaf first and is not changed.
func ordered(certs []certificate, order volume.ChainOrder) []certificate {
	rest := slices.Clone(certs[1:])
	result := slices.Clone(certs[:1])
	switch order {
	case volume.ChainOrderPFX:
	case volume.ChainOrderReverse:
		slices.Reverse(rest)
	default:
		for {
			next := issuer(result[len(result)-1], rest)
			if next < 0 {
				break
			}
			result = append(result, rest[next])
			rest = slices.Delete(rest, next, next+1)
		}
	}
	return append(result, rest...)
}

// issuer finds who issued child: by name, and by signature where Go can check it. Key identifiers are not looked at:
// many certificates have none.
func issuer(child certificate, candidates []certificate) int {
	if child.parsed == nil || bytes.Equal(child.parsed.RawIssuer, child.parsed.RawSubject) {
		return -1
	}
	uncheckable := -1
	for i, candidate := range candidates {
		if candidate.parsed == nil || !bytes.Equal(child.parsed.RawIssuer, candidate.parsed.RawSubject) {
			continue
		}
		err := child.parsed.CheckSignatureFrom(candidate.parsed)
		switch {
		case err == nil:
			return i
		case uncheckable < 0 && notChecked(err):
			uncheckable = i
		}
	}
	return uncheckable
}

// notChecked tells a signature that Go would not judge from one that it has judged to be wrong: SHA-1 is such an
// algorithm, and a private CA may lack the constraints that a public one has.
func notChecked(err error) bool {
	var insecure x509.InsecureAlgorithmError
	var constraint x509.ConstraintViolationError
	return errors.As(err, &insecure) || errors.As(err, &constraint) || errors.Is(err, x509.ErrUnsupportedAlgorithm)
}
