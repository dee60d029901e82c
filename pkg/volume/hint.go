package volume

import "strings"

var attributeNames = []string{
	AttributeVault, AttributeSecrets, AttributeCertificates, AttributeObjects, AttributeDownloadCA, AttributeSavePFX,
	AttributeChainOrder, AttributeIdentity, AttributeClientID, AttributeObjectID, AttributeResourceID,
	AttributeTenantID, AttributeRotationInterval, AttributeTimeout,
}

// foreignNames are what other tools call our attributes, folded: the predecessor's variables and the parameters of the
// Azure provider of the Secrets Store CSI Driver.
var foreignNames = map[string]string{
	"vaultbaseurl":             AttributeVault,
	"vaultresourcename":        AttributeVault,
	"keyvaultname":             AttributeVault,
	"secretskeys":              AttributeSecrets,
	"secretkeys":               AttributeSecrets,
	"certskeys":                AttributeCertificates,
	"certs":                    AttributeCertificates,
	"msiclientid":              AttributeClientID,
	"userassignedidentityid":   AttributeClientID,
	"msiobjectid":              AttributeObjectID,
	"msiresourceid":            AttributeResourceID,
	"autodetectaadtenant":      AttributeTenantID,
	"usemsi":                   AttributeIdentity,
	"useenv":                   AttributeIdentity,
	"serviceprinciplefilepath": AttributeIdentity,
	"usevmmanagedidentity":     AttributeIdentity,
	"usepodidentity":           AttributeIdentity,
	"secretproviderclass":      AttributeObjects,
	"rotationpollinterval":     AttributeRotationInterval,
}

// attributeHint is what to write in place of an unknown attribute, as the end of a sentence; empty if nobody knows.
func (c *collector) attributeHint(key string) string {
	if len(key) > maxQuoted || c.found > maxHints {
		return ""
	}
	switch folded := fold(key); folded {
	case SecretClientSecret, SecretClientCertificate, SecretClientCertificatePassword:
		return ", it belongs in the Secret of nodePublishSecretRef"
	default:
		if name, known := foreignNames[folded]; known {
			return didYouMean(name)
		}
	}
	// The predecessor's NAME_DOWNLOAD_CA_CERTIFICATE, and our own form in other letters.
	if name, found := strings.CutSuffix(lower(key), "_download_ca_certificate"); found && ValidName(name) {
		return didYouMean(AttributeDownloadCAPrefix + key[:len(name)])
	}
	if prefix, name, found := strings.Cut(key, "."); found && ValidName(name) {
		if c.nearest(prefix, []string{AttributeDownloadCA}) != "" {
			return didYouMean(AttributeDownloadCAPrefix + name)
		}
	}
	return didYouMean(c.nearest(key, attributeNames))
}

func didYouMean(name string) string {
	if name == "" {
		return ""
	}
	return ", did you mean " + name + "?"
}

// maxHints is after how many problems nobody is helped any more; looking for a near miss is the dearest part of one.
const maxHints = 100

// nearest is the one of the names that is the key but for case and punctuation, or else at most two letters away.
func (c *collector) nearest(key string, names []string) string {
	if len(key) > maxQuoted || c.found > maxHints {
		return ""
	}
	folded := fold(key)
	best, distance := "", 3
	for _, name := range names {
		// Short words are two letters away from everything: at least half of the letters must be right.
		if d := editDistance(folded, fold(name)); d < distance && 2*d < len(name) {
			best, distance = name, d
		}
	}
	return best
}

// fold is a key without what people vary: case and punctuation.
func fold(key string) string {
	return strings.Map(func(r rune) rune {
		if isAlphanumeric(r) {
			return r
		}
		return -1
	}, lower(key))
}

// editDistance is Levenshtein's, in bytes.
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
