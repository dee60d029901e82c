package policy

import (
	"fmt"
	"strings"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// refusal is the error of a request that the rule at index denies, or that no rule matches (-1). who is nil if the identity
// in the token does not matter.
func (p *Policy) refusal(r volume.Request, vault string, who *volume.Principal, index int) error {
	var answering []string
	if who != nil {
		answering = ids(*who)
	}
	what := strings.TrimSuffix(fmt.Sprintf("identity %s %s", r.Identity.Kind, named(r.Identity)), " ")
	if vault != "" {
		what += " at " + vault
	}
	if len(answering) > 0 {
		what += ", answered by " + answering[0]
	}
	var why string
	switch {
	case index >= 0:
		why = fmt.Sprintf("rules[%d] denies it; the operator must change that rule, or put before it one such as", index)
	case p.builtIn:
		why = "without a policy file only workload and servicePrincipal are allowed; the operator must give one (--policy-file) with a rule such as"
	case who != nil && len(answering) == 0:
		why = "its token does not say whose it is (it has none of the claims xms_mirid, appid, azp and oid); the operator would have to allow whoever answers, by a rule such as"
	default:
		why = "no rule of the policy file allows it; the operator must add one, such as"
	}
	return volume.Errorf(volume.ErrDenied, "the driver's policy does not let service account %s/%s use %s: %s %s",
		r.Pod.Namespace, r.Pod.ServiceAccount, what, why, example(r, vault, who))
}

// example is the narrowest rule that allows a request at a vault, as YAML on one line.
func example(r volume.Request, vault string, who *volume.Principal) string {
	id := named(r.Identity)
	switch {
	case who == nil:
	case r.Identity.Kind == volume.Managed && systemAssigned(*who):
		id = "" // the rule names none
	default:
		id = append(ids(*who), "*")[0]
	}
	text := fmt.Sprintf("{namespaces: [%q], serviceAccounts: [%q], identities: [%s]", r.Pod.Namespace, r.Pod.ServiceAccount, r.Identity.Kind)
	if id != "" {
		text += fmt.Sprintf(", clientIDs: [%q]", id)
	}
	if vault != "" {
		text += fmt.Sprintf(", vaults: [%q]", vault)
	}
	return text + "}"
}
