package providerclass

import (
	"strconv"
	"strings"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Flag reads a boolean parameter. Empty is false.
func Flag(text string) (value, ok bool) {
	if text == "" {
		return false, true
	}
	value, err := strconv.ParseBool(text)
	return value, err == nil
}

// Modes are the parameters that decide how a class logs in.
type Modes struct {
	PodIdentity     bool // usePodIdentity
	ManagedIdentity bool // useVMManagedIdentity
	TokenProxy      bool // useAzureTokenProxy

	UserAssignedIdentityID string
	ClientID               string
}

// Login is the identity of a class, in attributes of this driver.
type Login struct {
	Conflict    bool   // more than one of the three modes is on
	Unsupported string // the mode that is on and that this driver does not support; empty if there is none

	Kind      volume.IdentityKind
	Attribute string // of the id: clientID or resourceID
	ID        string // may be empty for volume.Managed
}

// Login decides in the provider's order: the modes, the client id, the Secret.
func (m Modes) Login() Login {
	switch {
	case m.PodIdentity && m.ManagedIdentity, m.PodIdentity && m.TokenProxy, m.ManagedIdentity && m.TokenProxy:
		return Login{Conflict: true}
	case m.PodIdentity:
		return Login{Unsupported: UsePodIdentity}
	case m.TokenProxy:
		return Login{Unsupported: UseAzureTokenProxy}
	case m.ManagedIdentity && strings.HasPrefix(strings.ToLower(m.UserAssignedIdentityID), "/subscriptions/"):
		// The provider takes client ids only.
		return Login{Kind: volume.Managed, Attribute: volume.AttributeResourceID, ID: m.UserAssignedIdentityID}
	case m.ManagedIdentity:
		return Login{Kind: volume.Managed, Attribute: volume.AttributeClientID, ID: m.UserAssignedIdentityID}
	case m.ClientID != "":
		return Login{Kind: volume.Workload, Attribute: volume.AttributeClientID, ID: m.ClientID}
	}
	return Login{Kind: volume.ServicePrincipal}
}
