package vault

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
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

// list returns the names of the enabled secrets that match a selection, in the vault's order. Each page is one call,
// so that a throttled list continues where it stopped.
func (v *Vaults) list(ctx context.Context, credential azcore.TokenCredential, o volume.Object, most int) (*Value, error) {
	client, err := azsecrets.NewClient(o.Vault, credential, &azsecrets.ClientOptions{ClientOptions: v.clientOptions(o.Vault)})
	if err != nil {
		return nil, azure.ErrStrange
	}
	found := &Value{}
	var next *string // link to the next page, from the vault
	for page := 0; page == 0 || next != nil && *next != ""; page++ {
		if page == maxPages {
			return nil, azure.ErrStrange
		}
		var resp azsecrets.ListSecretPropertiesResponse
		err := v.do(ctx, o.Vault, func(ctx context.Context) (err error) {
			if next != nil {
				ctx = context.WithValue(ctx, pageLink{}, *next)
			}
			pager := client.NewListSecretPropertiesPager(nil) // a failed pager repeats its error, so each page has its own
			resp, err = pager.NextPage(ctx)
			return err
		})
		if err != nil {
			return nil, err
		}
		if found.Names, err = matching(found.Names, o.Selection, resp.Value); err != nil {
			return nil, err
		}
		if most > 0 && len(found.Names) > most {
			return nil, ErrLongList
		}
		next = resp.NextLink
	}
	return found, nil
}

// matching appends the names of a page's enabled secrets that a selection matches.
func matching(names []string, s *volume.Selection, page []*azsecrets.SecretProperties) ([]string, error) {
	for _, item := range page {
		if item == nil || item.ID == nil || item.Attributes == nil || item.Attributes.Enabled == nil || !*item.Attributes.Enabled {
			continue
		}
		name := nameOf(string(*item.ID))
		if !volume.ValidName(name) {
			return nil, azure.ErrStrange
		}
		if matches(s, name, item.Tags) {
			names = append(names, name)
		}
	}
	return names, nil
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

// nameOf returns the name in an identifier such as https://v.vault.azure.net/secrets/NAME/VERSION.
func nameOf(id string) string {
	u, err := url.Parse(id)
	if err != nil {
		return ""
	}
	name, found := strings.CutPrefix(u.Path, "/secrets/")
	if !found {
		return ""
	}
	name, _, _ = strings.Cut(name, "/")
	return name
}

// pageAt is the policy of the SDK's clients that reads a later page of a list. The SDK's pager always begins with the
// first page, so this policy sends its request to the link in the context.
type pageAt struct{ vault string }

type pageLink struct{}

// Do implements policy.Policy.
func (p pageAt) Do(req *policy.Request) (*http.Response, error) {
	link, ok := req.Raw().Context().Value(pageLink{}).(string)
	if !ok {
		return req.Next()
	}
	page, err := runtime.NewRequestForNextLink(req.Raw().Context(), http.MethodGet, p.vault, link)
	if err != nil {
		return nil, azure.Final(azure.ErrStrange) // the error would repeat the link
	}
	req.Raw().URL, req.Raw().Host = page.Raw().URL, page.Raw().Host
	return req.Next()
}
