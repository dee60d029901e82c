// Package policy says which identity a pod may use, and at which vaults: the operator's word, where the pod's own wish
// is in its volume attributes.
//
// It matters because the four kinds of identity are not alike. A workload identity and a service principal are the
// pod's own: it proves them with a token of its service account or with a Secret of its namespace, and a policy can
// only narrow what Entra ID grants anyway. A managed identity and the cluster's are the node's: every pod that may
// name one has the rights of the node, so nobody may until the operator says who.
//
// A [Policy] is an ordered list of rules, of which the first that matches decides; [Parse] reads it from YAML. A [File]
// is a policy that follows its file.
//
// The package is a leaf and pure. It sees a validated [volume.Request], never the network, and whoever owns the file
// hands in how it is read.
package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Policy is an ordered list of rules. The first rule that matches a request decides; where none does, the request
// is refused. It is immutable and safe for concurrent use. The zero value has no rule and refuses everything.
type Policy struct {
	rules   []rule
	builtIn bool // there is no file yet, which a refusal could speak of
}

// rule matches a request at one of its vaults when each of its conditions does. A nil list is a condition that was left out.
type rule struct {
	deny            bool
	namespaces      []string
	serviceAccounts []string
	identities      []volume.IdentityKind
	clientIDs       []string // in lower case
	vaults          []string // in lower case
}

// Default is what holds without a policy file: workload and servicePrincipal everywhere, managed and cluster nowhere.
func Default() *Policy {
	return &Policy{builtIn: true, rules: []rule{
		{namespaces: []string{"*"}, identities: []volume.IdentityKind{volume.Workload, volume.ServicePrincipal}},
	}}
}

// Allow gives nil when the pod of the request may use the identity that it names at every vault that it names, and
// else an error that is [volume.ErrDenied]: one line that says who was refused what, by which rule or for the lack of
// one, and what the operator would have to write.
func (p *Policy) Allow(r volume.Request) error {
	for _, vault := range vaults(r) {
		decisive := slices.IndexFunc(p.rules, func(rule rule) bool { return rule.matches(r, vault) })
		if decisive < 0 || p.rules[decisive].deny {
			return p.refusal(r, vault, decisive)
		}
	}
	return nil
}

// vaults gives each vault of the request once, in the order of the objects. A request for nothing has one that is empty.
func vaults(r volume.Request) []string {
	var distinct []string
	for _, object := range r.Objects {
		if !slices.Contains(distinct, object.Vault) {
			distinct = append(distinct, object.Vault)
		}
	}
	if len(distinct) == 0 {
		return []string{""}
	}
	return distinct
}

func (r rule) matches(request volume.Request, vault string) bool {
	return slices.Contains(r.identities, request.Identity.Kind) &&
		matchesAny(r.namespaces, request.Pod.Namespace) &&
		(r.serviceAccounts == nil || matchesAny(r.serviceAccounts, request.Pod.ServiceAccount)) &&
		r.matchesID(request.Identity) &&
		(r.vaults == nil || matchesAny(r.vaults, strings.ToLower(vault)) || vault == "" && !r.deny)
}

// matchesID compares the id that the pod names. A rule that names none allows, of the managed identities, only the one
// that the node has of its own: else whoever may use a managed identity could use each that is assigned to the node. A
// denial that names none means all of them: to leave something out must never open a door.
func (r rule) matchesID(id volume.Identity) bool {
	named := named(id)
	if r.clientIDs == nil {
		return r.deny || id.Kind != volume.Managed || named == ""
	}
	return matchesAny(r.clientIDs, strings.ToLower(named))
}

// named is the id by which the pod names its identity; empty for the cluster's and for the node's own.
func named(id volume.Identity) string {
	switch {
	case id.ClientID != "":
		return id.ClientID
	case id.ObjectID != "":
		return id.ObjectID
	default:
		return id.ResourceID
	}
}

func matchesAny(globs []string, text string) bool {
	return slices.ContainsFunc(globs, func(glob string) bool { return matchGlob(glob, text) })
}

// matchGlob says whether the whole text is as the glob says, in which * stands for any characters, or for none.
func matchGlob(glob, text string) bool {
	parts := strings.Split(glob, "*")
	if len(parts) == 1 {
		return glob == text
	}
	text, found := strings.CutPrefix(text, parts[0])
	if !found {
		return false
	}
	for _, part := range parts[1 : len(parts)-1] {
		// The first place is as good as any: what is left of the text is the longest that there can be.
		if _, text, found = strings.Cut(text, part); !found {
			return false
		}
	}
	return strings.HasSuffix(text, parts[len(parts)-1])
}

// refusal is the error of a request that the rule at an index denies; below 0, that no rule matches.
func (p *Policy) refusal(r volume.Request, vault string, decisive int) error {
	what := strings.TrimSuffix(fmt.Sprintf("identity %s %s", r.Identity.Kind, named(r.Identity)), " ")
	if vault != "" {
		what += " at " + vault
	}
	var why string
	switch {
	case decisive >= 0:
		why = fmt.Sprintf("rules[%d] denies it; the operator must change that rule, or put before it one such as", decisive)
	case p.builtIn:
		why = "without a policy file only workload and servicePrincipal are allowed; the operator must give one (--policy-file) with a rule such as"
	default:
		why = "no rule of the policy file allows it; the operator must add one, such as"
	}
	return volume.Errorf(volume.ErrDenied, "the driver's policy does not let service account %s/%s use %s: %s %s",
		r.Pod.Namespace, r.Pod.ServiceAccount, what, why, example(r, vault))
}

// example is the narrowest rule that would allow a request at a vault, as YAML in one line.
func example(r volume.Request, vault string) string {
	text := fmt.Sprintf("{namespaces: [%q], serviceAccounts: [%q], identities: [%s]", r.Pod.Namespace, r.Pod.ServiceAccount, r.Identity.Kind)
	if id := named(r.Identity); id != "" {
		text += fmt.Sprintf(", clientIDs: [%q]", id)
	}
	if vault != "" {
		text += fmt.Sprintf(", vaults: [%q]", vault)
	}
	return text + "}"
}
