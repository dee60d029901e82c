package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// ErrNoVersion is an object without an enabled version, or without the version where its history is to begin. A vault also
// answers with an empty list for an object that does not exist.
var ErrNoVersion = &azure.Own{Err: errors.New("the object or that version of it does not exist, or is disabled")}

// ErrManyVersions is an object with so many versions that a history that begins at a given version is not searched.
var ErrManyVersions = &azure.Own{Err: fmt.Errorf("the object has more than %d versions", maxVersions)}

// maxVersions bounds the versions of an object in memory while the pages of its list are read.
const maxVersions = volume.MaxEntries + 1024

// history returns the enabled versions of an object from its version on, the newest first. The vault lists them in no order
// of time, so all pages are read.
func (r *Reader) history(ctx context.Context, o volume.Object) (*Value, error) {
	page, err := r.versionPages(o)
	if err != nil {
		return nil, azure.ErrStrange
	}
	var all []version
	err = r.pages(ctx, func(ctx context.Context) (next *string, err error) {
		versions, next, err := page(ctx)
		if slices.ContainsFunc(versions, func(v version) bool { return v.id == "" }) {
			return nil, azure.ErrStrange
		}
		if all = append(all, versions...); len(all) > maxVersions {
			if o.Version != "" {
				return nil, ErrManyVersions
			}
			all = newest(all, o.History.Most)
		}
		return next, err
	})
	if err != nil {
		return nil, err
	}
	if o.Version != "" {
		slices.SortStableFunc(all, byAge)
		begin := slices.IndexFunc(all, func(v version) bool { return v.id == o.Version })
		if begin < 0 {
			return nil, ErrNoVersion
		}
		all = all[begin:]
	}
	found := &Value{}
	for _, v := range newest(all, o.History.Most) {
		found.Names = append(found.Names, v.id)
	}
	if len(found.Names) == 0 {
		return nil, ErrNoVersion
	}
	return found, nil
}

// newest returns the enabled versions, the newest first, and not more than the most.
func newest(all []version, most int) []version {
	all = slices.DeleteFunc(all, func(v version) bool { return v.disabled })
	slices.SortStableFunc(all, byAge)
	return all[:min(len(all), most)]
}

// byAge orders the newest first.
func byAge(a, b version) int { return b.created.Compare(a.created) }

// version is one version of an object in a list.
type version struct {
	id       string // empty if the vault's identifier is of another object
	created  time.Time
	disabled bool
}

// versionPages returns a function that reads one page of the versions of an object.
func (r *Reader) versionPages(o volume.Object) (page func(context.Context) ([]version, *string, error), err error) {
	switch o.Kind {
	case volume.KindPublicCertificate:
		client, err := r.certificates()
		return func(ctx context.Context) ([]version, *string, error) {
			resp, err := client.NewListCertificatePropertiesVersionsPager(o.Name, nil).NextPage(ctx)
			return versions(resp.Value, func(c azcertificates.CertificateProperties) version {
				a := deref(c.Attributes)
				return newVersion(Certificates, o.Name, c.ID, a.Created, a.Enabled)
			}), resp.NextLink, err
		}, err
	case volume.KindKey:
		client, err := r.keys()
		return func(ctx context.Context) ([]version, *string, error) {
			resp, err := client.NewListKeyPropertiesVersionsPager(o.Name, nil).NextPage(ctx)
			return versions(resp.Value, func(k azkeys.KeyProperties) version {
				a := deref(k.Attributes)
				return newVersion(Keys, o.Name, k.KID, a.Created, a.Enabled)
			}), resp.NextLink, err
		}, err
	default:
		client, err := r.secrets()
		return func(ctx context.Context) ([]version, *string, error) {
			resp, err := client.NewListSecretPropertiesVersionsPager(o.Name, nil).NextPage(ctx)
			return versions(resp.Value, func(s azsecrets.SecretProperties) version {
				a := deref(s.Attributes)
				return newVersion(Secrets, o.Name, s.ID, a.Created, a.Enabled)
			}), resp.NextLink, err
		}, err
	}
}

// versions reads the items of a page. An item that is null is a version without an id.
func versions[T any](page []*T, read func(T) version) (all []version) {
	for _, item := range page {
		if item == nil {
			return append(all, version{})
		}
		all = append(all, read(*item))
	}
	return all
}

func newVersion[ID ~string](api, name string, id *ID, created *time.Time, enabled *bool) (v version) {
	if of, version, ok := identifier(id, api); ok && strings.EqualFold(of, name) && validVersion(version) {
		v.id = strings.Clone(version) // of its identifier
	}
	v.created, v.disabled = deref(created), enabled != nil && !*enabled
	return v
}

// deref returns what a pointer of the SDK points to, or the zero value.
func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
