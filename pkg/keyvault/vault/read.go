package vault

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Value is the content of one object. The interface that was read decides which fields are set.
type Value struct {
	Secret      volume.Secret
	ContentType string
	Backs       bool // the secret belongs to a certificate
	Tags        map[string]string
	Expires     time.Time // the vault's "exp"; zero if there is none

	DER []byte             // a certificate's leaf
	Key *azkeys.JSONWebKey // a public key

	Version string // of the object

	Names []string // of the secrets of a list, or the versions of a history, the newest first

	Stamp  Stamp   // of the object
	Stamps []Stamp // of a list, for each of the Names; not of a history
	Pages  int     // of a list for changes
	Long   bool    // a list for changes has more pages than are worth it, and no Names
}

// ErrNoValue is a secret without a value.
var ErrNoValue = &azure.Own{Err: errors.New("the secret has no value")}

// ErrPending is a certificate that was requested and not issued yet. A vault shows it without the certificate itself.
var ErrPending = &azure.Own{Err: errors.New("the certificate is not issued yet")}

// Read reads an object of the vault, as soon as the vault's throttle allows it. most bounds the names of a list; 0 means no
// bound. at is just before the request. The error is reduced, see [azure.Reduce].
func (r *Reader) Read(ctx context.Context, o volume.Object, most int) (value *Value, at time.Time, err error) {
	at = r.options.Now()
	switch {
	case o.History != nil:
		value, err = r.history(ctx, o)
		return value, at, err
	case o.Kind == volume.KindSelection:
		value, err = r.list(ctx, o, most)
		return value, at, err
	}
	err = r.do(ctx, o.Vault, func(ctx context.Context) (err error) {
		at = r.options.Now()
		switch o.Kind {
		case volume.KindPublicCertificate:
			value, err = r.certificate(ctx, o)
		case volume.KindKey:
			value, err = r.key(ctx, o)
		default:
			value, err = r.secret(ctx, o)
		}
		return err
	})
	return value, at, err
}

// do makes one call to a vault when its throttle allows it, and counts the memory of its answers.
func (v *Vaults) do(ctx context.Context, vault string, call func(context.Context) error) error {
	return v.Throttle(vault).Do(ctx, FetchTimeout, func(ctx context.Context) error {
		ctx, end := v.options.Memory.Call(ctx)
		defer end()
		return call(ctx)
	})
}

func (r *Reader) secret(ctx context.Context, o volume.Object) (*Value, error) {
	client, err := r.secrets()
	if err != nil {
		return nil, err
	}
	var answer *http.Response
	resp, err := client.GetSecret(policy.WithCaptureResponse(ctx, &answer), o.Name, o.Version, nil)
	if err != nil {
		return nil, err
	}
	_, version, ok := identifier(resp.ID, Secrets)
	if !ok {
		return nil, azure.ErrStrange
	}
	if resp.Value == nil {
		return nil, ErrNoValue
	}
	return &Value{
		Secret: volume.NewSecret([]byte(*resp.Value)), Version: version, ContentType: deref(resp.ContentType), Backs: resp.KID != nil,
		Tags: tagsOf(resp.Tags), Expires: deref(deref(resp.Attributes).Expires),
		Stamp: shownSecret(resp.Attributes, resp.ContentType, resp.Tags).readStamp(answer),
	}, nil
}

// tagsOf returns the tags with a value; nil if there are none.
func tagsOf(tags map[string]*string) map[string]string {
	var all map[string]string // not as large as tags, which may be full of null
	for name, tag := range tags {
		if tag == nil {
			continue
		}
		if all == nil {
			all = map[string]string{}
		}
		all[name] = *tag
	}
	return all
}

func (r *Reader) certificate(ctx context.Context, o volume.Object) (*Value, error) {
	client, err := r.certificates()
	if err != nil {
		return nil, err
	}
	var answer *http.Response
	resp, err := client.GetCertificate(policy.WithCaptureResponse(ctx, &answer), o.Name, o.Version, nil)
	if err != nil {
		return nil, err
	}
	_, version, ok := identifier(resp.ID, Certificates)
	if !ok {
		return nil, azure.ErrStrange
	}
	if len(resp.CER) == 0 {
		return nil, ErrPending
	}
	return &Value{
		Version: version, DER: resp.CER, Tags: tagsOf(resp.Tags), Expires: deref(deref(resp.Attributes).Expires),
		Stamp: shownCertificate(resp.Attributes, resp.Tags, resp.X509Thumbprint).readStamp(answer),
	}, nil
}

func (r *Reader) key(ctx context.Context, o volume.Object) (*Value, error) {
	client, err := r.keys()
	if err != nil {
		return nil, err
	}
	resp, err := client.GetKey(ctx, o.Name, o.Version, nil)
	if err != nil {
		return nil, err
	}
	key := resp.Key
	if key == nil || key.Kty == nil {
		return nil, azure.ErrStrange
	}
	_, version, _ := identifier(key.KID, Keys)
	return &Value{
		Version: version, Key: &azkeys.JSONWebKey{Kty: key.Kty, Crv: key.Crv, N: key.N, E: key.E, X: key.X, Y: key.Y},
		Tags: tagsOf(resp.Tags), Expires: deref(deref(resp.Attributes).Expires),
	}, nil
}

const (
	// valueBytes is the memory of a value without its content, tagsBytes that of a map of up to eight tags. Both are measured and
	// rounded up.
	valueBytes, tagsBytes = 288, 352
	// tagBytes is the memory of a tag without its text.
	tagBytes = 32
)

// Size is the approximate size of the value in bytes.
func (v *Value) Size() int {
	n := valueBytes + len(v.Secret.Reveal()) + len(v.Version) + len(v.ContentType) + len(v.DER)
	if len(v.Tags) > 0 {
		n += tagsBytes
	}
	for name, value := range v.Tags {
		n += len(name) + len(value) + tagBytes
	}
	if v.Key != nil {
		n += len(deref(v.Key.Kty)) + len(deref(v.Key.Crv)) + len(v.Key.N) + len(v.Key.E) + len(v.Key.X) + len(v.Key.Y)
	}
	for _, name := range v.Names {
		n += len(name) + 16
	}
	return n + len(v.Stamps)*len(Stamp{})
}
