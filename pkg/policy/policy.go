// Package policy says which identity a pod may use: the operator's word, where the pod's own wish is in its volume
// attributes.
//
// It matters because the four kinds of identity are not alike. A workload identity and a service principal are the
// pod's own: it proves them with a token of its service account or with a Secret of its namespace, and a policy can
// only narrow what Entra ID grants anyway. A managed identity and the cluster's are the node's: every pod that may
// name one has the rights of the node, so nobody may until the operator says who.
//
// The package is a leaf and pure. It sees a validated [volume.Request], never the network, and decides without I/O.
package policy

import (
	"slices"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Policy is an ordered list of rules. The first rule that matches a request decides; where none does, the request
// is refused. It is immutable and safe for concurrent use.
type Policy struct {
	rules []rule
}

// rule allows the requests that it matches.
type rule struct {
	identities []volume.IdentityKind
}

// Default is what holds without a policy file: workload and servicePrincipal everywhere, managed and cluster nowhere.
func Default() *Policy {
	return &Policy{rules: []rule{
		{identities: []volume.IdentityKind{volume.Workload, volume.ServicePrincipal}},
	}}
}

// Allow gives nil when the pod of the request may use the identity that it names, and else an error that is
// [volume.ErrDenied]: one line that says who was refused what and who can change it.
func (p *Policy) Allow(r volume.Request) error {
	if slices.ContainsFunc(p.rules, func(rule rule) bool { return rule.matches(r) }) {
		return nil
	}
	return volume.Errorf(volume.ErrDenied,
		"the driver's policy does not let service account %s/%s use identity %s: the operator must allow it in the policy",
		r.Pod.Namespace, r.Pod.ServiceAccount, r.Identity.Kind)
}

func (r rule) matches(request volume.Request) bool {
	return slices.Contains(r.identities, request.Identity.Kind)
}
