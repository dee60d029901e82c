package vault

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// The interfaces of a vault. The list of secrets and the lists of versions count as such, because they are read and cached
// like objects.
const (
	Secrets      = "secrets"
	Certificates = "certificates"
	Keys         = "keys"
	List         = "list"

	// Versions stands before the interface of the object: "versions of secrets".
	Versions = "versions of "
	// Changes stands before the interface of all objects of a vault, see [ChangesOf].
	Changes = "changes of "
)

// Request identifies one read: objects with the same Request are read once.
type Request struct {
	Vault, Interface, Name, Version string
}

// RequestOf returns the request of an object. Its strings are copies: names and versions are substrings of
// attributes, which would otherwise stay in memory as long as the request.
func RequestOf(o volume.Object) Request {
	switch o.Kind {
	case volume.KindSelection:
		// The request has a hash of the selection, because tags may have 30 KiB. fmt sorts the keys of a map.
		sum := sha256.Sum256(fmt.Appendf(nil, "%q %q", strings.ToLower(o.Selection.Prefix), o.Selection.Tags))
		return Request{o.Vault, List, string(sum[:]), ""}
	case volume.KindPublicCertificate:
		return named(Certificates, o)
	case volume.KindKey:
		return named(Keys, o)
	default:
		return named(Secrets, o)
	}
}

func named(api string, o volume.Object) Request {
	r := Request{o.Vault, api, strings.Clone(strings.ToLower(o.Name)), strings.Clone(o.Version)}
	if o.History != nil { // a list has no version, but the first of its history and how many there are
		r.Interface, r.Name, r.Version = Versions+api, fmt.Sprintf("%s/%d/%s", r.Name, o.History.Most, r.Version), ""
	}
	return r
}

// URL is the address of the object, without the query of the API version.
func (r Request) URL() string { return r.Vault + strings.TrimSuffix(r.path(), "/") }

// path is the URL path of the object in its vault.
func (r Request) path() string {
	if r.Interface == List {
		return "/" + Secrets
	}
	if api, ok := strings.CutPrefix(r.Interface, Versions); ok {
		name, _, _ := strings.Cut(r.Name, "/")
		return "/" + api + "/" + name + "/versions"
	}
	if api, ok := strings.CutPrefix(r.Interface, Changes); ok {
		return "/" + api
	}
	return "/" + r.Interface + "/" + r.Name + "/" + r.Version
}

// Check rejects an object that must not be requested. It is the second line of defence after volume.Parse: the SDK
// cleans its paths, so that a name such as ".." would become another request, and a token must not be sent to a host
// outside the cloud. The error is [volume.ErrInvalid].
func Check(cloud azure.Cloud, o volume.Object) error {
	switch {
	case !cloud.Holds(o.Vault):
		return volume.Errorf(volume.ErrInvalid, "%s: %q is not a vault of the cloud %s", o.Source, o.Vault, cloud.Name)
	case o.Kind == volume.KindSelection && o.Selection != nil && o.Selection.Each != nil:
		return nil
	case !volume.ValidName(o.Name):
		return volume.Errorf(volume.ErrInvalid, "%s: %q is not the name of an object", o.Source, o.Name)
	case !validVersion(o.Version):
		return volume.Errorf(volume.ErrInvalid, "%s: %q is not a version of an object", o.Source, o.Version)
	case o.Password != nil:
		return Check(cloud, *o.Password)
	}
	return nil
}

// validVersion accepts 32 hexadecimal digits, and the empty version, which means the latest.
func validVersion(version string) bool {
	return version == "" || len(version) == 32 && strings.Trim(version, "0123456789abcdef") == ""
}
