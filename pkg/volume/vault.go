package volume

import "strings"

// defaultVault is the attribute vault, for the objects that name none.
type defaultVault struct {
	url    string
	given  bool
	needed string // the first object that looked for it in vain
}

func (p *parser) defaultVault() *defaultVault {
	text, given := p.attributes[AttributeVault]
	if !given {
		return &defaultVault{}
	}
	url, problem := parseVault(text, p.defaults.VaultSuffix)
	if problem != "" {
		p.problem(AttributeVault, "%s", problem)
	}
	return &defaultVault{url: url, given: true}
}

func (v *defaultVault) get(source string) string {
	if !v.given && v.needed == "" {
		v.needed = source
	}
	return v.url
}

// knownSuffixes are those of Azure's clouds, for a hint; the rule itself knows only the driver's own.
var knownSuffixes = []string{
	"vault.azure.net", "vault.usgovcloudapi.net", "vault.azure.cn", "vault.microsoftazure.de",
}

// parseVault takes https://NAME.SUFFIX, with a trailing slash or the port 443 if need be, or NAME, and gives the
// canonical URL. It compares text with what it expects instead of taking a URL apart, so that nothing which only some
// URL parser would read as such a host can pass: the name that remains has 3 to 24 ASCII letters, digits and single
// hyphens, as Azure requires of a vault's name, and exactly one label.
func parseVault(text, suffix string) (url, problem string) {
	host, isURL := strings.CutPrefix(lower(text), "https://")
	name := host
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

// vaultHint is the end of the sentence: what to write instead.
func vaultHint(host, suffix string) string {
	want := ", want https://NAME." + suffix + " or NAME (3 to 24 letters, digits and single hyphens, a letter first)"
	if strings.Contains(host, ".privatelink.") || strings.Contains(host, ".privatelink-") {
		return want + ", the public name leads to the private endpoint by itself, write it without privatelink"
	}
	host = strings.TrimSuffix(host, ".")
	if strings.HasSuffix(host, ".managedhsm.azure.net") {
		return want + ", a managed HSM holds no secrets"
	}
	for _, other := range knownSuffixes {
		if other != suffix && strings.HasSuffix(host, "."+other) {
			return want + ", " + other + " belongs to another cloud than the one this driver is set up for"
		}
	}
	return want
}

// validVaultName is Azure's rule for the name of a vault, in lower case. No double hyphen also means no punycode.
func validVaultName(name string) bool {
	if len(name) < 3 || len(name) > 24 || strings.Contains(name, "--") {
		return false
	}
	for _, c := range []byte(name) {
		if c != '-' && (c >= 'A' && c <= 'Z' || !isAlphanumeric(c)) {
			return false
		}
	}
	return name[0] >= 'a' && name[0] <= 'z' && name[len(name)-1] != '-'
}
