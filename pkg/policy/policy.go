// Package policy says which identity a pod may use, and at which vaults: the operator's word, where the pod's own wish
// is in its volume attributes.
//
// It matters because the four kinds of identity are not alike. A workload identity and a service principal are the
// pod's own: it proves them with a token of its service account or with a Secret of its namespace, and a policy can
// only narrow what Entra ID grants anyway. A managed identity and the cluster's are the node's: every pod that may
// name one has the rights of the node, so nobody may until the operator says who. Such an identity has three ids, and
// may be named by each of them or by none; so a rule about it is held against whom its token speaks for.
//
// A [Policy] is an ordered list of rules, of which the first that matches decides; [Parse] reads it from YAML. A [File]
// is a policy that follows its file.
//
// The package is a leaf and pure. It sees a validated [volume.Request], never the network, and whoever owns the file
// hands in how it is read.
package policy

import (
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

// Allow gives no error when the pod of the request may use the identity that it names at every vault that it names, and
// else one that is [volume.ErrDenied]: one line that says who was refused what, by which rule or for the lack of one, and
// what the operator would have to write. Where that depends on who answers for the identity, the answer is the Permit,
// which is nil where it does not.
func (p *Policy) Allow(r volume.Request) (volume.Permit, error) {
	depends := false
	for _, vault := range vaults(r) {
		decisive, open := p.decide(r, vault, nil)
		if p.allows(decisive) {
			continue // and so do all rules before it that could match: they name ids, see rule.check
		}
		if !open {
			return nil, p.refusal(r, vault, nil, decisive)
		}
		depends = true
	}
	if !depends {
		return nil, nil
	}
	return func(who volume.Principal) error {
		for _, vault := range vaults(r) {
			if decisive, _ := p.decide(r, vault, &who); !p.allows(decisive) {
				return p.refusal(r, vault, &who, decisive)
			}
		}
		return nil
	}, nil
}

// Problem gives nil: only a [File] has rules that are not in force.
func (p *Policy) Problem() error { return nil }

func (p *Policy) allows(decisive int) bool { return decisive >= 0 && !p.rules[decisive].deny }

// decide gives the index of the rule that decides about a request at a vault; below 0, that there is none. Before it is
// known who answers, open says that a rule before that one may match.
func (p *Policy) decide(r volume.Request, vault string, who *volume.Principal) (decisive int, open bool) {
	for i, rule := range p.rules {
		if !rule.covers(r, vault) {
			continue
		}
		switch rule.identifies(r.Identity, who) {
		case yes:
			return i, open
		case perhaps:
			open = true
		}
	}
	return -1, open
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

// covers holds all conditions but clientIDs against a request.
func (r rule) covers(request volume.Request, vault string) bool {
	return slices.Contains(r.identities, request.Identity.Kind) &&
		matchesAny(r.namespaces, request.Pod.Namespace) &&
		(r.serviceAccounts == nil || matchesAny(r.serviceAccounts, request.Pod.ServiceAccount)) &&
		(r.vaults == nil || matchesAny(r.vaults, strings.ToLower(vault)) || vault == "" && !r.deny)
}

// match is whether a rule's clientIDs match. perhaps: it depends on who answers.
type match int

const (
	no match = iota
	perhaps
	yes
)

// identifies holds clientIDs against an identity, and of the node's own against who answers; nil is not known yet.
//
// A rule that names none allows, of the managed identities, only the one that the node has of its own: else whoever may
// use a managed identity could use each that is assigned to the node. A denial that names none means all of them: to
// leave something out must never open a door.
func (r rule) identifies(id volume.Identity, who *volume.Principal) match {
	switch {
	case r.clientIDs == nil && (r.deny || id.Kind != volume.Managed), r.anybody():
		return yes
	case !ofTheNode(id.Kind):
		return certain(matchesAny(r.clientIDs, strings.ToLower(named(id))))
	case who == nil:
		return perhaps
	case r.clientIDs == nil:
		return certain(systemAssigned(*who))
	default:
		return certain(slices.ContainsFunc(ids(*who), func(id string) bool { return matchesAny(r.clientIDs, id) }))
	}
}

func certain(matches bool) match {
	if matches {
		return yes
	}
	return no
}

// anybody says that clientIDs match whatever an id may be, and so also one that is not known.
func (r rule) anybody() bool { return matchesAny(r.clientIDs, "") }

func ofTheNode(kind volume.IdentityKind) bool {
	return kind == volume.Managed || kind == volume.Cluster
}

// ids are those of the three that a token says, the one to speak of in front.
func ids(who volume.Principal) []string {
	return slices.DeleteFunc([]string{who.ResourceID, who.ClientID, who.ObjectID}, func(id string) bool { return id == "" })
}

// systemAssigned: the token of a managed identity names the resource that it belongs to.
func systemAssigned(who volume.Principal) bool {
	return who.ResourceID != "" && !strings.Contains(who.ResourceID, "/userassignedidentities/")
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
