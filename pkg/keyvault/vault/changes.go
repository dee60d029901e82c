package vault

import (
	"context"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// MaxChangePages bounds [Reader.Changes]. The pages are read one after another, and their names stay in memory.
const MaxChangePages = 100

// maxChanges bounds the objects of a list: 25 on a page, as vaults send at most.
const maxChanges = 25 * MaxChangePages

// ChangesOf returns the request of [Reader.Changes], and an object that stands for the list in errors.
func ChangesOf(vault, api string) (Request, volume.Object) {
	o := volume.Object{Kind: volume.KindSelection, Source: volume.AttributeChangeDetection, Vault: vault}
	if api == Certificates {
		o.Kind = volume.KindPublicCertificate
	}
	return Request{Vault: vault, Interface: Changes + api}, o
}

// Changes lists the enabled secrets, or all certificates, of a vault with their stamps. After so many pages, or 2,500 objects,
// it gives up, see [Value.Long]. at is just before the first request. The error is reduced, see [azure.Reduce].
func (r *Reader) Changes(ctx context.Context, request Request, pages int) (found *Value, at time.Time, err error) {
	at = r.options.Now()
	page, err := r.changePages(request)
	if err != nil {
		return nil, at, azure.ErrStrange
	}
	found = &Value{}
	err = r.pages(ctx, func(ctx context.Context) (next *string, err error) {
		next, err = page(ctx, found)
		if err != nil {
			return next, err
		}
		found.Pages++
		more := next != nil && *next != ""
		if more && found.Pages >= pages || len(found.Names) > maxChanges {
			found, next = &Value{Long: true}, nil
		}
		return next, nil
	})
	return found, at, err
}

// changePages returns a function that reads one page into a value.
func (r *Reader) changePages(request Request) (page func(context.Context, *Value) (*string, error), err error) {
	if request.Interface == Changes+Certificates {
		client, err := r.certificates()
		return func(ctx context.Context, to *Value) (*string, error) {
			resp, err := client.NewListCertificatePropertiesPager(nil).NextPage(ctx)
			for _, item := range resp.Value {
				if item == nil {
					return nil, azure.ErrStrange
				}
				name, _, ok := identifier(item.ID, Certificates)
				if !ok {
					return nil, azure.ErrStrange
				}
				to.add(name, listedStamp(r.vault, item.ID, shownCertificate(item.Attributes, item.Tags, item.X509Thumbprint)))
			}
			return resp.NextLink, err
		}, err
	}
	client, err := r.secrets()
	return func(ctx context.Context, to *Value) (*string, error) {
		resp, err := client.NewListSecretPropertiesPager(nil).NextPage(ctx)
		if err == nil {
			err = to.addMatching(volume.Object{Vault: r.vault, Selection: &volume.Selection{}}, resp.Value)
		}
		return resp.NextLink, err
	}, err
}

// add adds an object of a list with its stamp.
func (v *Value) add(name string, stamp Stamp) {
	v.Names, v.Stamps = append(v.Names, strings.Clone(name)), append(v.Stamps, stamp)
}

func shownSecret(attributes *azsecrets.SecretAttributes, contentType *string, tags map[string]*string) shown {
	a := deref(attributes)
	return shown{a.Enabled, a.Created, a.Updated, a.NotBefore, a.Expires, contentType, tags, nil}
}

func shownCertificate(attributes *azcertificates.CertificateAttributes, tags map[string]*string, thumbprint []byte) shown {
	a := deref(attributes)
	return shown{a.Enabled, a.Created, a.Updated, a.NotBefore, a.Expires, nil, tags, thumbprint}
}
