package keyvault

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/cache"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/certificate"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/values"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/vault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// accept makes the files of a read from its value, and keeps only them: a certificate may be many times as large as
// the file that a volume needs. An optional object that is absent has no files.
func (f *fetch) accept(ctx context.Context, r *read, from cache.Result[*value]) error {
	r.at, r.read = from.At, from.Read
	switch {
	case from.Value == nil:
		r.absent = true
		return nil
	case r.object().IsList():
		r.names, r.stamps = from.Value.Names, from.Value.Stamps
		return nil
	}
	r.version = from.Value.Version
	if r.password != nil {
		*r.password = from.Value.Secret
	}
	if err := f.describe(ctx, r, from.Value); err != nil {
		return err
	}
	r.files = make([][]volume.File, len(r.objects))
	with := extras{fields: fieldsOf(r.objects, from.Value)}
	for i, object := range r.objects {
		if object.Password != nil { // its own read may not have ended
			r.value = from.Value
			continue
		}
		if err := f.acceptObject(ctx, r, i, from.Value, with); err != nil {
			return err
		}
	}
	if r.value != nil {
		return f.reserve(ctx, int64(r.value.Size()))
	}
	return nil
}

// acceptObject makes the files of one object of a read.
func (f *fetch) acceptObject(ctx context.Context, r *read, index int, v *value, with extras) error {
	object := r.objects[index]
	done, err := f.render(ctx, *object, v, with)
	if object.KeyIfExportable && errors.Is(err, certificate.ErrNoKey) {
		public := *object
		public.Split = slices.DeleteFunc(slices.Clone(public.Split), volume.Output.HoldsKey)
		done, err = f.render(ctx, public, v, with)
		r.notes = append(r.notes, label(*object)+" has a key that is not exportable: its certificate is there, without the key")
	}
	if err != nil {
		return err
	}
	files := len(done.files)
	if object.In != nil {
		files = 0 // they are entries of a file
	}
	if err := f.count(ctx, sizeOf(done.files)-done.counted, files); err != nil {
		return err
	}
	r.files[index] = done.files
	if !done.notAfter.IsZero() {
		r.notAfter = done.notAfter
	}
	if done.gap != nil {
		r.gaps = append(r.gaps, fmt.Sprintf("%s %v", label(*object), done.gap))
	}
	return nil
}

func sizeOf(files []volume.File) (bytes int64) {
	for _, file := range files {
		bytes += int64(len(file.Data.Reveal()))
	}
	return bytes
}

// keep counts files against the limits of the volume and the memory of the node.
func (f *fetch) keep(ctx context.Context, files []volume.File) error {
	return f.count(ctx, sizeOf(files), len(files))
}

func (f *fetch) count(ctx context.Context, bytes int64, files int) error {
	if err := f.Limits.Check(f.bytes.Add(bytes), int(f.files.Add(int64(files)))); err != nil {
		return err
	}
	return f.reserve(ctx, bytes)
}

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
func (f *fetch) render(ctx context.Context, o volume.Object, v *value, with extras) (done rendered, err error) {
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
			data, err = decodeValue(o, v.Value)
		case volume.PartField:
			data, err = with.fields.of(o, output.Pointer)
			if o.Optional && errors.Is(err, values.ErrNoField) {
				continue
			}
			if err == nil { // one by one: the fields of an object may be many times as large as its value
				done.counted += int64(len(data))
				err = f.count(ctx, int64(len(data)), 0)
			}
		case volume.PartPEMOrValue:
			data, err = f.pemOrValue(ctx, o, v, &done)
		case volume.PartCertBlocks, volume.PartOtherBlocks:
			data, err = f.blocks(ctx, o, v, output.Part, &done)
		case volume.PartPublicKey:
			data, err = publicKey(o, v.Value)
		default:
			data, err = f.certificatePart(ctx, o, v, output.Part, with.password, &done)
		}
		if err != nil {
			return rendered{}, err
		}
		done.files = append(done.files, volume.File{Path: output.Path, Mode: output.Mode, Data: volume.NewSecret(data)})
	}
	return done, nil
}

// certificatePart returns the bytes of one output of a certificate, and notes the end of its validity and a gap.
func (f *fetch) certificatePart(
	ctx context.Context, o volume.Object, v *value, part volume.Part, password volume.Secret, done *rendered,
) (data []byte, err error) {
	bundle, err := f.bundle(ctx, v)
	switch {
	case err != nil:
	case part == volume.PartPFX:
		data, err = f.pfx(ctx, o, bundle, password)
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
func (f *fetch) bundle(ctx context.Context, v *value) (*certificate.Bundle, error) {
	if v.DER != nil {
		return certificate.FromDER(v.DER), nil
	}
	return f.decoders.Split(ctx, f.Pod.Namespace, v.decoded, v.ContentType, v.Secret.Reveal())
}

// publicKey returns the PEM of a key.
func publicKey(o volume.Object, v *vault.Value) ([]byte, error) {
	var key certificate.JSONWebKey
	if v.Key != nil && v.Key.Kty != nil {
		key = certificate.JSONWebKey{Type: string(*v.Key.Kty), N: v.Key.N, E: v.Key.E, X: v.Key.X, Y: v.Key.Y}
		if v.Key.Crv != nil {
			key.Curve = string(*v.Key.Crv)
		}
	}
	data, err := certificate.PublicKeyPEM(key)
	if err != nil {
		return nil, volume.Errorf(volume.ErrPrecondition, "%s %v", label(o), err)
	}
	return data, nil
}

// pemOrValue returns the PEM of a certificate of PKCS#12, or else the value. As in the Azure provider of the Secrets Store
// CSI Driver, the encoding is of what is written: no PEM is base64 text or hexadecimal digits.
func (f *fetch) pemOrValue(ctx context.Context, o volume.Object, v *value, done *rendered) (data []byte, err error) {
	if !v.Backs || !certificate.IsPFX(v.ContentType) {
		return decodeValue(o, v.Value)
	}
	if o.Encoding != "" && o.Encoding != volume.UTF8 {
		return nil, volume.Errorf(volume.ErrPrecondition, "%s backs a certificate, which is written as PEM and is not %s; "+
			"leave the encoding out, or ask for its PFX (objectFormat: pfx)", label(o), o.Encoding)
	}
	return f.certificatePart(ctx, o, v, volume.PartPEMOrValue, volume.Secret{}, done)
}

// blocks returns some blocks of the PEM in the outputs. A PKCS#12 file that is an output itself has none.
func (f *fetch) blocks(ctx context.Context, o volume.Object, v *value, part volume.Part, done *rendered) (data []byte, err error) {
	data = v.Secret.Reveal()
	asPEM := slices.ContainsFunc(o.Outputs, func(o volume.Output) bool { return o.Part == volume.PartPEMOrValue })
	if asPEM && certificate.IsPFX(v.ContentType) {
		data, err = f.certificatePart(ctx, o, v, volume.PartPEMOrValue, volume.Secret{}, done)
	}
	return certificate.Blocks(data, part == volume.PartCertBlocks), err
}

// decodeValue decodes a secret's value. The error names the encoding, never the value.
func decodeValue(o volume.Object, v *vault.Value) (data []byte, err error) {
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
