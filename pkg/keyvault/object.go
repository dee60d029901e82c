package keyvault

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// got is what a vault holds under one name; which fields are set depends on the interface that was asked.
type got struct {
	value       volume.Secret
	contentType string
	backs       bool // the secret is that of a certificate
	tags        map[string]*string

	der []byte             // a certificate's leaf
	key *azkeys.JSONWebKey // a key's public half

	names []string // a list
}

// bytes is about what it takes to keep it. What a certificate was taken apart into is the decoder's.
func (g *got) bytes() int {
	if g == nil {
		return 0
	}
	n := len(g.value.Reveal()) + len(g.contentType) + len(g.der)
	for name, value := range g.tags {
		n += len(name) + len(text(value)) + 64
	}
	if g.key != nil {
		n += len(g.key.N) + len(g.key.E) + len(g.key.X) + len(g.key.Y)
	}
	for _, name := range g.names {
		n += len(name) + 16
	}
	return n
}

func noClaims() policy.TokenRequestOptions { return policy.TokenRequestOptions{} }

func (*Client) getSecret(ctx context.Context, s *session, o volume.Object) (*got, error) {
	client, err := s.secrets()
	if err != nil {
		return nil, err
	}
	resp, err := client.GetSecret(ctx, o.Name, o.Version, nil)
	if err != nil {
		return nil, err
	}
	if resp.Value == nil {
		return nil, errNoValue
	}
	return &got{value: volume.NewSecret([]byte(*resp.Value)), contentType: text(resp.ContentType), backs: resp.KID != nil, tags: resp.Tags}, nil
}

func (*Client) getCertificate(ctx context.Context, s *session, o volume.Object) (*got, error) {
	client, err := s.certificates()
	if err != nil {
		return nil, err
	}
	resp, err := client.GetCertificate(ctx, o.Name, o.Version, nil)
	if err != nil {
		return nil, err
	}
	if len(resp.CER) == 0 {
		return nil, errStrange
	}
	return &got{der: resp.CER}, nil
}

func (*Client) getKey(ctx context.Context, s *session, o volume.Object) (*got, error) {
	client, err := s.keys()
	if err != nil {
		return nil, err
	}
	resp, err := client.GetKey(ctx, o.Name, o.Version, nil)
	if err != nil {
		return nil, err
	}
	if resp.Key == nil || resp.Key.Kty == nil {
		return nil, errStrange
	}
	key := resp.Key
	return &got{key: &azkeys.JSONWebKey{Kty: key.Kty, Crv: key.Crv, N: key.N, E: key.E, X: key.X, Y: key.Y}}, nil
}

// maxPages bounds a list: 40,000 secrets are ten times what a volume may hold.
const maxPages = 1600

// errLongList ends a list that names more secrets than a volume may have files.
var errLongList = errors.New("more secrets match than a volume may have files")

// list gives the names of the enabled secrets that a selection matches, in the vault's order. most bounds their number; 0
// means no bound.
func (c *Client) list(ctx context.Context, s *session, o volume.Object, most int) (*got, error) {
	client, err := s.secrets()
	if err != nil {
		return nil, err
	}
	found := &got{}
	var next *string // where the vault says that the next page is
	for page := 0; page == 0 || text(next) != ""; page++ {
		if page == maxPages {
			return nil, errStrange
		}
		var resp azsecrets.ListSecretPropertiesResponse
		err := c.request(ctx, o.Vault, func(ctx context.Context) error {
			if next != nil {
				ctx = context.WithValue(ctx, pageLink{}, *next)
			}
			pager := client.NewListSecretPropertiesPager(nil) // of this attempt: one that has failed gives its error for ever
			resp, err = pager.NextPage(ctx)
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, item := range resp.Value {
			if item == nil || item.ID == nil || item.Attributes == nil || item.Attributes.Enabled == nil || !*item.Attributes.Enabled {
				continue
			}
			name := nameOf(string(*item.ID))
			if !volume.ValidName(name) {
				return nil, errStrange
			}
			if matches(o.Selection, name, item.Tags) {
				found.names = append(found.names, name)
			}
		}
		if most > 0 && len(found.names) > most {
			return nil, errLongList
		}
		next = resp.NextLink
	}
	return found, nil
}

// pageAt is the policy of the SDK's clients that reads a page of a list which is not the first. A pager of the SDK cannot be
// told where to begin, so one that begins, with its link in the context, is sent there.
type pageAt struct{ vault string }

type pageLink struct{}

func (p pageAt) Do(req *policy.Request) (*http.Response, error) {
	link, ok := req.Raw().Context().Value(pageLink{}).(string)
	if !ok {
		return req.Next()
	}
	page, err := runtime.NewRequestForNextLink(req.Raw().Context(), http.MethodGet, p.vault, link)
	if err != nil {
		return nil, final{errStrange} // the error would repeat the link
	}
	req.Raw().URL, req.Raw().Host = page.Raw().URL, page.Raw().Host
	return req.Next()
}

// nameOf takes the name out of an identifier such as https://v.vault.azure.net/secrets/NAME/VERSION.
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

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// label is the beginning of an error about what an object holds.
func label(o volume.Object) string {
	s := fmt.Sprintf("%s: %s %q", o.Source, o.Kind, o.Name)
	if o.Version != "" {
		s += " version " + o.Version
	}
	return s + " of " + o.Vault
}

// render gives the files of one object, for a pod of that namespace.
func (c *Client) render(ctx context.Context, namespace string, o volume.Object, u *unpacking) ([]volume.File, error) {
	outputs, g := o.Outputs, u.got
	if o.Kind == volume.KindSecret {
		switch {
		case g.backs:
			outputs = append(slices.Clip(outputs), o.Split...)
		case o.NeedsCertificate:
			return nil, volume.Errorf(volume.ErrPrecondition,
				"%s backs no certificate, so that there is nothing for its certificate's file; leave the file names out", label(o))
		}
	}
	files := make([]volume.File, 0, len(outputs))
	for _, output := range outputs {
		var data []byte
		var err error
		switch output.Part {
		case volume.PartValue:
			data, err = decode(o, g)
		case volume.PartPublicKey:
			data, err = publicKeyPEM(o, g.key)
		case volume.PartLeaf76:
			data = leaf76(g.der)
		default:
			data, err = c.certificatePart(ctx, namespace, o, u, output.Part)
		}
		if err != nil {
			return nil, err
		}
		files = append(files, volume.File{Path: output.Path, Mode: output.Mode, Data: volume.NewSecret(data)})
	}
	return files, nil
}

// decode gives the bytes that a secret's value stands for. The error names the encoding, never the value.
func decode(o volume.Object, g *got) ([]byte, error) {
	encoding := o.Encoding
	if tag, ok := g.tags["file-encoding"]; ok && tag != nil && *tag == "base64" && o.HonourEncodingTag {
		encoding = volume.Base64
	}
	var data []byte
	var err error
	switch encoding {
	case volume.Base64:
		data, err = decodeBase64(g.value)
	case volume.Hex:
		data, err = hex.DecodeString(withoutSpace(g.value))
	default:
		return g.value.Reveal(), nil
	}
	if err != nil {
		return nil, volume.Errorf(volume.ErrPrecondition, "%s is not %s; correct the value or the encoding", label(o), encoding)
	}
	return data, nil
}

// decodeBase64 takes the standard alphabet with padding (RFC 4648 section 4) and white space anywhere, like the
// base64 modules of Python and az, with which such values are mostly made.
func decodeBase64(s volume.Secret) ([]byte, error) {
	return base64.StdEncoding.DecodeString(withoutSpace(s))
}

func withoutSpace(s volume.Secret) string {
	return strings.Join(strings.Fields(string(s.Reveal())), "")
}
