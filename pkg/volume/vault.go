package volume

import "strings"

// cloudSuffixes are the DNS suffixes of Azure's clouds, for a hint. Only the suffix of the driver is accepted.
var cloudSuffixes = []string{"vault.azure.net", "vault.usgovcloudapi.net", "vault.azure.cn", "vault.microsoftazure.de"}

// vault reads a vault, or nothing if it is absent.
func vault(r reader, name, suffix string) (url string) {
	text, given := r.text(name)
	if !given {
		return ""
	}
	url, problem := parseVault(text, suffix)
	if problem != "" {
		r.problem(name, "%s", problem)
	}
	return url
}

// parseVault accepts NAME or https://NAME.SUFFIX, also with a trailing slash or the port 443, and returns the canonical
// URL. It does not use a URL parser, because parsers disagree about hosts: what is left after the expected parts are
// cut off must be a vault name.
func parseVault(text, suffix string) (url, problem string) {
	name, isURL := strings.CutPrefix(lower(text), "https://")
	host := name
	if isURL {
		host = strings.TrimSuffix(strings.TrimSuffix(host, "/"), ":443")
		label, ours := strings.CutSuffix(host, "."+suffix)
		if !ours {
			return "", quote(text) + " is not a vault of this cloud" + vaultHint(host, suffix)
		}
		name = label
	}
	if !validVaultName(name) {
		return "", quote(text) + " is not a vault" + vaultHint(host, suffix)
	}
	return "https://" + name + "." + suffix, ""
}

// vaultHint returns the end of the sentence: what to write instead.
func vaultHint(host, suffix string) string {
	want := ", want https://NAME." + suffix + " or NAME (3 to 24 letters, digits and single hyphens, a letter first)"
	if strings.Contains(host, ".privatelink.") || strings.Contains(host, ".privatelink-") {
		return want + ", the public name leads to the private endpoint by itself, write it without privatelink"
	}
	host = strings.TrimSuffix(host, ".")
	if strings.HasSuffix(host, ".managedhsm.azure.net") {
		return want + ", a managed HSM holds no secrets"
	}
	for _, other := range cloudSuffixes {
		if other != suffix && strings.HasSuffix(host, "."+other) {
			return want + ", " + other + " belongs to another cloud than the one this driver is set up for"
		}
	}
	return want
}

// validVaultName is Azure's rule for the name of a vault, in lower case. It excludes punycode, which has two hyphens.
func validVaultName(name string) bool {
	return len(name) >= 3 && len(name) <= 24 && ValidName(name) && name == lower(name) &&
		name[0] >= 'a' && !strings.HasSuffix(name, "-") && !strings.Contains(name, "--")
}
