package vault

import (
	"context"
	"encoding/json"
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
			link := ""
			if next != nil {
				link = *next
			}
			ctx = context.WithValue(ctx, pageLink{}, link)
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
		if item == nil {
			return nil, azure.ErrStrange
		}
		name, ok := nameOf(item.ID, Secrets)
		if !ok {
			return nil, azure.ErrStrange
		}
		disabled := item.Attributes != nil && item.Attributes.Enabled != nil && !*item.Attributes.Enabled
		if !disabled && matches(s, name, item.Tags) {
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

// nameOf returns the name in an identifier such as https://v.vault.azure.net/secrets/NAME/VERSION. Everything that a
// vault shows has one, so that an answer without is of something else.
func nameOf[ID ~string](id *ID, api string) (name string, ok bool) {
	if id == nil {
		return "", false
	}
	u, err := url.Parse(string(*id))
	if err != nil {
		return "", false
	}
	name, found := strings.CutPrefix(u.Path, "/"+api+"/")
	name, _, _ = strings.Cut(name, "/")
	return name, found && volume.ValidName(name)
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
