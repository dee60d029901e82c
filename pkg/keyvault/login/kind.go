package login

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Kind is how an identity logs in.
type Kind string

// The kinds of login.
const (
	ByAssertion   Kind = "assertion"   // the pod's service account token
	BySecret      Kind = "secret"      // a client secret
	ByCertificate Kind = "certificate" // an assertion signed with a client certificate
	ByMetadata    Kind = "metadata"    // a token of the node's metadata service
	ByNothing     Kind = ""
)

// KindOf returns the kind of login of an identity after [Logins.Identify].
func KindOf(id volume.Identity) Kind {
	switch {
	case id.Kind == volume.Workload:
		return ByAssertion
	case id.Kind == volume.Managed:
		return ByMetadata
	case !id.ClientSecret.IsEmpty():
		return BySecret
	case !id.ClientCertificate.IsEmpty():
		return ByCertificate
	case id.Kind == volume.Cluster:
		return ByMetadata
	default:
		return ByNothing
	}
}

// ServiceOf returns the service that issues the tokens of an identity.
func ServiceOf(id volume.Identity) azure.Service {
	if KindOf(id) == ByMetadata {
		return azure.Metadata
	}
	return azure.Entra
}

// Identify rejects an identity that cannot log in, before any request is sent. It replaces identity cluster by the
// content of the cluster's file, which it reads for each fetch. The errors are those of package volume.
func (l *Logins) Identify(r volume.Request) (volume.Request, error) {
	if l.options.Credential != nil {
		return r, nil
	}
	id := r.Identity
	switch id.Kind {
	case volume.Workload:
		if id.ClientID == "" || id.Assertion.IsEmpty() {
			return r, volume.Errorf(volume.ErrInvalid, "identity workload needs clientID and the pod's token")
		}
	case volume.ServicePrincipal:
		if id.ClientID == "" || KindOf(id) == ByNothing {
			return r, volume.Errorf(volume.ErrInvalid, "identity servicePrincipal needs clientid, and clientsecret or clientcertificate")
		}
	case volume.Managed:
		isEmpty := func(s string) bool { return s == "" }
		if named := slices.DeleteFunc([]string{id.ClientID, id.ObjectID, id.ResourceID}, isEmpty); len(named) > 1 {
			return r, volume.Errorf(volume.ErrInvalid, "identity managed takes one of clientID, objectID and resourceID")
		}
	case volume.Cluster:
		cluster, err := l.cluster(id)
		if err != nil {
			return r, err
		}
		r.Identity = cluster
	default:
		return r, volume.Errorf(volume.ErrInvalid, "identity %q is unknown", id.Kind)
	}
	return r, nil
}

// Describe names an identity in an error: "workload 1111-...".
func Describe(id volume.Identity) string {
	return strings.TrimSuffix(string(id.Kind)+" "+cmp.Or(id.ClientID, id.ObjectID+id.ResourceID), " ")
}

var (
	guid   = regexp.MustCompile(`(?i)^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	domain = regexp.MustCompile(`(?i)^([0-9a-z]([0-9a-z-]{0,61}[0-9a-z])?\.)+[a-z][0-9a-z-]{0,61}[0-9a-z]$`)
)
