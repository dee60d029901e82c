package files

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/certificate"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/values"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// label is the beginning of an error about the content of an object.
func label(o volume.Object) string {
	s := fmt.Sprintf("%s: %s %q", o.Source, o.Kind, o.Name)
	if o.Version != "" {
		s += " version " + o.Version
	}
	return s + " of " + o.Vault
}

// rendered are the files of one object.
type rendered struct {
	files    []volume.File
	counted  int64     // bytes of them that are counted already
	notAfter time.Time // of its certificate, if that was decoded
	gap      error     // in the chain of its files
}

// extras are what the files of an object need beside its value.
type extras struct {
	fields   *fields       // of the read; nil if no object needs one
	password volume.Secret // for a PKCS#12 file
}

// render makes the files of an object.
func (s *Set) render(ctx context.Context, o volume.Object, v *Value, with extras) (done rendered, err error) {
	outputs := o.Outputs
	if o.Kind == volume.KindSecret {
		switch {
		case v.Backs:
			outputs = slices.Concat(o.Split, outputs) // in the order of the Azure provider's answers
		case o.NeedsCertificate:
			remedy := "leave the file names out"
			if certificate.IsContent(v.ContentType) { // such as of an App Service Certificate
				remedy += ", or name it in the attribute objects: [{certificate: " + o.Name + "}]"
			}
			return rendered{}, volume.Errorf(volume.ErrPrecondition,
				"%s backs no certificate, so that there is nothing for its certificate's file; %s", label(o), remedy)
		}
	}
	for _, output := range outputs {
		var data []byte
		switch output.Part {
		case volume.PartValue:
			data, err = decodeValue(o, v)
		case volume.PartField:
			data, err = with.fields.of(o, output.Pointer)
			if o.Optional && errors.Is(err, values.ErrNoField) {
				continue
			}
			if err == nil { // one by one: the fields of an object may be many times as large as its value
				done.counted += int64(len(data))
				err = s.count(ctx, int64(len(data)), 0)
			}
		case volume.PartPEMOrValue:
			data, err = s.pemOrValue(ctx, o, v, &done)
		case volume.PartCertBlocks, volume.PartOtherBlocks:
			data, err = s.blocks(ctx, o, v, output.Part, &done)
		case volume.PartPublicKey:
			if data, err = certificate.PublicKeyPEM(v.Key); err != nil {
				err = volume.Errorf(volume.ErrPrecondition, "%s %v", label(o), err)
			}
		default:
			data, err = s.certificatePart(ctx, o, v, output.Part, with.password, &done)
		}
		if err != nil {
			return rendered{}, err
		}
		done.files = append(done.files, volume.File{Path: output.Path, Mode: output.Mode, Data: volume.NewSecret(data)})
	}
	return done, nil
}

// certificatePart returns the bytes of one output of a certificate, and notes the end of its validity and a gap.
func (s *Set) certificatePart(
	ctx context.Context, o volume.Object, v *Value, part volume.Part, password volume.Secret, done *rendered,
) (data []byte, err error) {
	bundle, err := s.bundle(ctx, v)
	switch {
	case err != nil:
	case part == volume.PartPFX:
		data, err = s.pfx(ctx, o, bundle, password)
	default:
		data, err = bundle.Part(part, o.ChainOrder, o.KeyFormat)
	}
	if err == nil && o.RequireChain {
		err = bundle.Gap(true)
	}
	switch {
	case err == nil:
		done.notAfter = bundle.NotAfter()
		if (volume.Output{Part: part}).HoldsChain() {
			done.gap = bundle.Gap(false)
		}
		return data, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s: waiting for its decoding: %w", label(o), ctx.Err())
	default:
		return nil, volume.Errorf(volume.ErrPrecondition, "%s %w", label(o), err)
	}
}

// bundle returns the parts of a certificate.
func (s *Set) bundle(ctx context.Context, v *Value) (*certificate.Bundle, error) {
	if v.DER != nil {
		return certificate.FromDER(v.DER), nil
	}
	return s.decoders.Split(ctx, s.request.Pod.Namespace, v.Decoded, v.ContentType, v.Secret.Reveal())
}

// pemOrValue returns the PEM of a certificate of PKCS#12, or else the value. As in the Azure provider of the Secrets Store
// CSI Driver, the encoding applies to what is written, and PEM is neither base64 text nor hexadecimal digits.
func (s *Set) pemOrValue(ctx context.Context, o volume.Object, v *Value, done *rendered) (data []byte, err error) {
	if !v.Backs || !certificate.IsPFX(v.ContentType) {
		return decodeValue(o, v)
	}
	if o.Encoding != "" && o.Encoding != volume.UTF8 {
		return nil, volume.Errorf(volume.ErrPrecondition, "%s backs a certificate, which is written as PEM and is not %s; "+
			"leave the encoding out, or ask for its PFX (objectFormat: pfx)", label(o), o.Encoding)
	}
	return s.certificatePart(ctx, o, v, volume.PartPEMOrValue, volume.Secret{}, done)
}

// blocks returns some blocks of the PEM in the outputs. A PKCS#12 file that is an output itself has none.
func (s *Set) blocks(ctx context.Context, o volume.Object, v *Value, part volume.Part, done *rendered) (data []byte, err error) {
	data = v.Secret.Reveal()
	asPEM := slices.ContainsFunc(o.Outputs, func(o volume.Output) bool { return o.Part == volume.PartPEMOrValue })
	if asPEM && certificate.IsPFX(v.ContentType) {
		data, err = s.certificatePart(ctx, o, v, volume.PartPEMOrValue, volume.Secret{}, done)
	}
	return certificate.Blocks(data, part == volume.PartCertBlocks), err
}

// decodeValue decodes a secret's value. The error names the encoding, never the value.
func decodeValue(o volume.Object, v *Value) (data []byte, err error) {
	encoding := o.Encoding
	if o.HonourEncodingTag && v.Tags["file-encoding"] == "base64" {
		encoding = volume.Base64
	}
	return decodeText(o, encoding, v.Secret.Reveal())
}

// decodeText decodes a value, or a field of one.
func decodeText(o volume.Object, encoding volume.Encoding, text []byte) (data []byte, err error) {
	// White space may be anywhere: the base64 modules of Python and az wrap lines.
	withoutSpace := func() string { return strings.Join(strings.Fields(string(text)), "") }
	switch encoding {
	case volume.Base64:
		data, err = base64.StdEncoding.DecodeString(withoutSpace())
	case volume.Hex:
		data, err = hex.DecodeString(withoutSpace())
	default:
		return text, nil
	}
	if err != nil {
		return nil, volume.Errorf(volume.ErrPrecondition, "%s is not %s; correct the value or the encoding", label(o), encoding)
	}
	return data, nil
}
