package policy

import (
	"fmt"
	"strings"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// refusal is the error of a request that the rule at an index denies; below 0, that no rule matches. who answers is nil
// where it does not matter.
func (p *Policy) refusal(r volume.Request, vault string, who *volume.Principal, decisive int) error {
	what := strings.TrimSuffix(fmt.Sprintf("identity %s %s", r.Identity.Kind, named(r.Identity)), " ")
	if vault != "" {
		what += " at " + vault
	}
	if who != nil && len(ids(*who)) > 0 {
		what += ", answered by " + ids(*who)[0]
	}
	var why string
	switch {
	case decisive >= 0:
		why = fmt.Sprintf("rules[%d] denies it; the operator must change that rule, or put before it one such as", decisive)
	case p.builtIn:
		why = "without a policy file only workload and servicePrincipal are allowed; the operator must give one (--policy-file) with a rule such as"
	case who != nil && len(ids(*who)) == 0:
		why = "its token does not say whose it is (it has none of the claims xms_mirid, appid, azp and oid); the operator would have to allow whoever answers, by a rule such as"
	default:
		why = "no rule of the policy file allows it; the operator must add one, such as"
	}
	return volume.Errorf(volume.ErrDenied, "the driver's policy does not let service account %s/%s use %s: %s %s",
		r.Pod.Namespace, r.Pod.ServiceAccount, what, why, example(r, vault, who))
}

// example is the narrowest rule that would allow a request at a vault, as YAML in one line.
func example(r volume.Request, vault string, who *volume.Principal) string {
	text := fmt.Sprintf("{namespaces: [%q], serviceAccounts: [%q], identities: [%s]", r.Pod.Namespace, r.Pod.ServiceAccount, r.Identity.Kind)
	if id := exampleID(r.Identity, who); id != "" {
		text += fmt.Sprintf(", clientIDs: [%q]", id)
	}
	if vault != "" {
		text += fmt.Sprintf(", vaults: [%q]", vault)
	}
	return text + "}"
}

// exampleID is empty for a rule that names none.
func exampleID(id volume.Identity, who *volume.Principal) string {
	switch {
	case who == nil:
		return named(id)
	case len(ids(*who)) == 0:
		return "*"
	case id.Kind == volume.Managed && systemAssigned(*who):
		return ""
	default:
		return ids(*who)[0]
	}
}
