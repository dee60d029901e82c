package volume

import (
	"maps"
	"slices"
	"strings"
)

type attributeName struct {
	name    string
	aliases []string // folded
}

// attributeNames are the attributes and what other tools call them: the variables of the predecessor and the parameters
// of the Azure provider of the Secrets Store CSI Driver.
var attributeNames = []attributeName{
	{AttributeVault, []string{"vaultbaseurl", "vaultresourcename", "keyvaultname"}},
	{AttributeSecrets, []string{"secretskeys", "secretkeys"}},
	{AttributeCertificates, []string{"certskeys", "certs"}},
	{AttributeObjects, []string{"secretproviderclass"}},
	{AttributeDownloadCA, nil},
	{AttributeSavePFX, nil},
	{AttributeChainOrder, nil},
	{AttributeIdentity, []string{"usemsi", "useenv", "serviceprinciplefilepath", "usevmmanagedidentity", "usepodidentity"}},
	{AttributeClientID, []string{"msiclientid", "userassignedidentityid"}},
	{AttributeObjectID, []string{"msiobjectid"}},
	{AttributeResourceID, []string{"msiresourceid"}},
	{AttributeTenantID, []string{"autodetectaadtenant"}},
	{AttributeRotationInterval, []string{"rotationpollinterval"}},
	{AttributeChangeDetection, nil},
	{AttributeTimeout, nil},
}

// unknown reports the attributes that are not known.
func (p *parser) unknown() {
	for _, key := range slices.Sorted(maps.Keys(p.attributes)) {
		known := slices.ContainsFunc(attributeNames, func(a attributeName) bool { return a.name == key })
		if !known && !strings.HasPrefix(key, KubeletPrefix) && !strings.HasPrefix(key, AttributeDownloadCAPrefix) {
			p.problem(asField(key), "unknown attribute%s", p.attributeHint(key))
		}
	}
}

// attributeHint returns what to write instead of an unknown attribute, as the end of a sentence, or nothing.
func (p *parser) attributeHint(key string) string {
	if p.noHint(key) {
		return ""
	}
	folded := fold(key)
	switch folded {
	case SecretClientSecret, SecretClientCertificate, SecretClientCertificatePassword:
		return ", it belongs in the Secret of nodePublishSecretRef"
	}
	var names []string
	for _, a := range attributeNames {
		if slices.Contains(a.aliases, folded) {
			return didYouMean(a.name)
		}
		names = append(names, a.name)
	}
	// The predecessor's NAME_DOWNLOAD_CA_CERTIFICATE, and a misspelt downloadCACertificates.NAME.
	if name, found := strings.CutSuffix(lower(key), "_download_ca_certificate"); found && ValidName(name) {
		return didYouMean(AttributeDownloadCAPrefix + key[:len(name)])
	}
	prefix, name, found := strings.Cut(key, ".")
	if found && ValidName(name) && p.nearest(prefix, []string{AttributeDownloadCA}) != "" {
		return didYouMean(AttributeDownloadCAPrefix + name)
	}
	return didYouMean(p.nearest(key, names))
}

func didYouMean(name string) string {
	if name == "" {
		return ""
	}
	return ", did you mean " + name + "?"
}

// maxHints is the number of problems after which hints are left out: they take most of the time of a problem.
const maxHints = 100

func (p *parser) noHint(key string) bool { return len(key) > maxQuoted || p.found > maxHints }

func (p *parser) nearest(key string, names []string) string {
	if p.noHint(key) {
		return ""
	}
	return Nearest(key, names)
}

// Nearest returns the name that differs from the key in case and punctuation only, or else in at most two letters; empty if there is none.
func Nearest(key string, names []string) string {
	folded := fold(key)
	best, distance := "", 3
	for _, name := range names {
		// At least half of the letters must be right: short words are two letters away from any other.
		if d := editDistance(folded, fold(name)); d < distance && 2*d < len(name) {
			best, distance = name, d
		}
	}
	return best
}

// fold removes punctuation and makes letters lower-case.
func fold(key string) string {
	return strings.Map(func(r rune) rune {
		if isAlphanumeric(r) {
			return r
		}
		return -1
	}, lower(key))
}

// editDistance is the Levenshtein distance in bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
