// Package policy decides which pod may use which identity at which vaults. The operator writes the rules.
//
// A workload identity and a service principal belong to the pod: it proves them with a token of its service account or with
// a Secret of its namespace, and a policy can only narrow what Entra ID grants. A managed identity and the cluster's belong
// to the node: a pod that may use one has the rights of the node, so none may until the operator allows it. A pod can name
// such an identity by each of its three ids, or by none. So a rule about it is compared with the identity in its token.
//
// The package must not know the network or files: it gets a validated [volume.Request], and a function that reads the file.
package policy

import (
	"cmp"
	"slices"
	"strings"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Policy is an ordered list of rules. The first rule that matches a request decides; a request that no rule matches is
// refused. It is immutable. The zero value refuses everything.
type Policy struct {
	rules        []rule
	refreshAfter instant // of the whole file
	builtIn      bool    // there is no file that a refusal could name
}

// rule matches a request at one of its vaults if each condition does. A nil list matches everything; see identifies for
// ClientIDs.
type rule struct {
	Effect          string   `yaml:"effect"` // allow, deny or empty: allow
	Namespaces      []string `yaml:"namespaces"`
	ServiceAccounts []string `yaml:"serviceAccounts"`
	Identities      []string `yaml:"identities"`
	ClientIDs       []string `yaml:"clientIDs"` // in lower case
	Vaults          []string `yaml:"vaults"`    // in lower case
	RefreshAfter    instant  `yaml:"refreshAfter"`
}

// Default is the policy without a file: workload and servicePrincipal everywhere, managed and cluster nowhere.
func Default() *Policy {
	return &Policy{builtIn: true, rules: []rule{
		{Namespaces: []string{"*"}, Identities: []string{string(volume.Workload), string(volume.ServicePrincipal)}},
	}}
}

// Allow returns no error if the pod of the request may use its identity at every vault of the request. Else the error is
// [volume.ErrDenied]: one line with a rule that would allow it. If the decision depends on the identity in the token, Allow
// returns a Permit that makes it, else nil.
func (p *Policy) Allow(r volume.Request) (volume.Permit, error) {
	depends, err := p.judge(r, nil)
	if err != nil || !depends {
		return nil, err
	}
	return func(who volume.Principal) error {
		_, err := p.judge(r, &who)
		return err
	}, nil
}

// Problem returns nil: only a [File] can have rules that are not in force.
func (p *Policy) Problem() error { return nil }

// judge returns a refusal, or whether the decision depends on the identity in the token: who, which may be nil.
func (p *Policy) judge(r volume.Request, who *volume.Principal) (depends bool, err error) {
	for _, vault := range vaults(r) {
		index, open := p.decide(r, vault, who)
		switch {
		case index >= 0 && !p.rules[index].deny(): // the rules before it that may match allow it too: see rule.check
		case len(open) > 0:
			depends = true
		default:
			return false, p.refusal(r, vault, who, index)
		}
	}
	return depends, nil
}

// decide returns the index of the first rule that matches, or -1. While who is nil the identity in the token is not known
// yet; open are the rules before the index that may match too.
func (p *Policy) decide(r volume.Request, vault string, who *volume.Principal) (index int, open []rule) {
	for i, rule := range p.rules {
		if !rule.covers(r, vault) {
			continue
		}
		matches, known := rule.identifies(r.Identity, who)
		if matches {
			return i, open
		}
		if !known {
			open = append(open, rule)
		}
	}
	return -1, open
}

// vaults returns each vault of the request once. A request without objects has an empty one.
func vaults(r volume.Request) []string {
	if all := r.Vaults(); len(all) > 0 {
		return all
	}
	return []string{""}
}

func (r rule) deny() bool { return r.Effect == "deny" }

// covers checks all conditions except ClientIDs.
func (r rule) covers(request volume.Request, vault string) bool {
	return slices.Contains(r.Identities, string(request.Identity.Kind)) &&
		r.coversPod(request.Pod) &&
		(r.Vaults == nil || matchesAny(r.Vaults, strings.ToLower(vault)) || vault == "" && !r.deny())
}

func (r rule) coversPod(pod volume.Pod) bool {
	return matchesAny(r.Namespaces, pod.Namespace) && (r.ServiceAccounts == nil || matchesAny(r.ServiceAccounts, pod.ServiceAccount))
}

// identifies checks ClientIDs. For an identity of the node it compares the identity in the token, which is not known while
// who is nil.
//
// Without ClientIDs a rule allows of the managed identities only the system-assigned one. Else a pod that may use one could
// use all that are assigned to the node. A denial without ClientIDs means all of them.
func (r rule) identifies(id volume.Identity, who *volume.Principal) (matches, known bool) {
	switch {
	case r.ClientIDs == nil && (r.deny() || id.Kind != volume.Managed), r.matchesAnyID():
		return true, true
	case !ofTheNode(string(id.Kind)):
		return matchesAny(r.ClientIDs, strings.ToLower(named(id))), true
	case who == nil:
		return false, false
	case r.ClientIDs == nil:
		return systemAssigned(*who), true
	}
	return slices.ContainsFunc(ids(*who), func(id string) bool { return matchesAny(r.ClientIDs, id) }), true
}

// matchesAnyID reports whether ClientIDs match every id, also one that is not known.
func (r rule) matchesAnyID() bool { return matchesAny(r.ClientIDs, "") }

func ofTheNode(kind string) bool {
	return kind == string(volume.Managed) || kind == string(volume.Cluster)
}

// ids returns the ids in a token, the one for messages first.
func ids(who volume.Principal) []string {
	return slices.DeleteFunc([]string{who.ResourceID, who.ClientID, who.ObjectID}, func(id string) bool { return id == "" })
}

// systemAssigned reports whether the token of a managed identity names a resource that is not an identity itself.
func systemAssigned(who volume.Principal) bool {
	return who.ResourceID != "" && !strings.Contains(who.ResourceID, "/userassignedidentities/")
}

// named returns the id by which the pod names its identity; empty for the cluster's and the system-assigned one.
func named(id volume.Identity) string { return cmp.Or(id.ClientID, id.ObjectID, id.ResourceID) }

func matchesAny(globs []string, text string) bool {
	return slices.ContainsFunc(globs, func(glob string) bool { return matchGlob(glob, text) })
}

// matchGlob matches the whole text. * matches any characters, also /, unlike in path.Match.
func matchGlob(glob, text string) bool {
	first, rest, isGlob := strings.Cut(glob, "*")
	text, found := strings.CutPrefix(text, first)
	if !isGlob || !found {
		return found && text == ""
	}
	parts := strings.Split(rest, "*")
	last := len(parts) - 1
	for _, part := range parts[:last] {
		// The first match is enough: it leaves the longest rest.
		if _, text, found = strings.Cut(text, part); !found {
			return false
		}
	}
	return strings.HasSuffix(text, parts[last])
}
