package vault

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// maxPages bounds a list. 40,000 secrets are ten times the files that a volume may have.
const maxPages = 1600

// ErrLongList ends a list that names more secrets than a volume may have files.
var ErrLongList = &azure.Own{Err: errors.New("more secrets match than a volume may have files"), Transient: true}

// list returns the names of the enabled secrets that match a selection, in the vault's order.
func (r *Reader) list(ctx context.Context, o volume.Object, most int) (*Value, error) {
	client, err := r.secrets()
	if err != nil {
		return nil, azure.ErrStrange
	}
	found := &Value{}
	err = r.pages(ctx, func(ctx context.Context) (next *string, err error) {
		resp, err := client.NewListSecretPropertiesPager(nil).NextPage(ctx)
		if err == nil {
			err = found.addMatching(o, resp.Value)
		}
		if err == nil && most > 0 && len(found.Names) > most {
			err = ErrLongList
		}
		return resp.NextLink, err
	})
	return found, err
}

// pages calls read for each page of a list, in its context. A failed pager of the SDK repeats its error, so each page has a
// pager of its own, and each is one call to the vault, so that a throttled list continues where it stopped.
func (r *Reader) pages(ctx context.Context, read func(context.Context) (next *string, err error)) error {
	link := ""
	for range maxPages {
		var next *string // from the vault
		err := r.do(ctx, r.vault, func(ctx context.Context) (err error) {
			next, err = read(context.WithValue(ctx, pageLink{}, link))
			return err
		})
		if err != nil || next == nil || *next == "" {
			return err
		}
		link = *next
	}
	return azure.ErrStrange
}

// addMatching adds a page's enabled secrets that a selection matches.
func (v *Value) addMatching(o volume.Object, page []*azsecrets.SecretProperties) error {
	for _, item := range page {
		if item == nil {
			return azure.ErrStrange
		}
		name, _, ok := identifier(item.ID, Secrets)
		if !ok {
			return azure.ErrStrange
		}
		disabled := item.Attributes != nil && item.Attributes.Enabled != nil && !*item.Attributes.Enabled
		if !disabled && matches(o.Selection, name, item.Tags) {
			v.add(name, listedStamp(o.Vault, item.ID, shownSecret(item.Attributes, item.ContentType, item.Tags)))
		}
	}
	return nil
}

func matches(s *volume.Selection, name string, tags map[string]*string) bool {
	if len(name) < len(s.Prefix) || !strings.EqualFold(name[:len(s.Prefix)], s.Prefix) {
		return false
	}
	for tag, want := range s.Tags {
		if value, ok := tags[tag]; !ok || value == nil || *value != want {
			return false
		}
	}
	return true
}

// identifier returns the name and the version in an identifier such as https://v.vault.azure.net/secrets/NAME/VERSION.
// Everything that a vault shows has one, so that an answer without is of something else. The results are copies, so that what keeps them
// does not keep the identifier, which may be as long as an answer.
func identifier[ID ~string](id *ID, api string) (name, version string, ok bool) {
	if id == nil {
		return "", "", false
	}
	u, err := url.Parse(string(*id))
	if err != nil {
		return "", "", false
	}
	name, found := strings.CutPrefix(u.Path, "/"+api+"/")
	name, version, _ = strings.Cut(name, "/")
	return strings.Clone(name), strings.Clone(version), found && volume.ValidName(name)
}

// pageAt is the policy of the SDK's clients that reads one page of a list. The SDK's pager always begins with the first
// page, so this policy sends its request to the link in the context. It is empty for the first page.
type pageAt struct{ vault string }

type pageLink struct{}

// Do implements policy.Policy.
func (p pageAt) Do(req *policy.Request) (*http.Response, error) {
	link, ok := req.Raw().Context().Value(pageLink{}).(string)
	if !ok {
		return req.Next()
	}
	if link == "" {
		return p.next(req)
	}
	page, err := runtime.NewRequestForNextLink(req.Raw().Context(), http.MethodGet, p.vault, link)
	if err != nil {
		return nil, azure.Final(azure.ErrStrange) // the error would repeat the link
	}
	req.Raw().URL, req.Raw().Host = page.Raw().URL, page.Raw().Host
	return p.next(req)
}

// next refuses a page that lacks one of its members. The SDK would take it for the last one, and all secrets of the
// pages behind it for deleted.
func (pageAt) next(req *policy.Request) (*http.Response, error) {
	resp, err := req.Next()
	if err != nil || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	var page struct {
		Value    *[]json.RawMessage `json:"value"`
		NextLink json.RawMessage    `json:"nextLink"` // null on the last page
	}
	body, err := runtime.Payload(resp)
	if err != nil {
		return nil, err
	}
	if json.Unmarshal(body, &page) != nil || page.Value == nil || page.NextLink == nil {
		return nil, azure.Final(azure.ErrStrange)
	}
	return resp, nil
}
