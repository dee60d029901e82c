package policy

import "github.com/keyvault-csi/keyvault-csi/pkg/volume"

// Decision is what the rules say about a request at one of its vaults, before the identity in the token is known.
type Decision struct {
	Vault   string
	Rule    int  // index of the first rule that matches; -1 if none does
	Allowed bool // that rule allows it
	Depends bool // an earlier rule may match too: the identity in the token decides
}

// Decisions explains [Policy.Allow]: it has the decision for each vault of the request.
func (p *Policy) Decisions(r volume.Request) (all []Decision) {
	for _, vault := range vaults(r) {
		index, open := p.decide(r, vault, nil)
		all = append(all, Decision{vault, index, index >= 0 && !p.rules[index].deny(), len(open) > 0})
	}
	return all
}
