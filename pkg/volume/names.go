package volume

import "strings"

// ValidName reports whether Key Vault accepts the name of a secret, certificate or key: 1 to 127 ASCII letters, digits
// and hyphens. The names that a vault lists must pass it before they go into a URL or become file names: the SDK would
// send a request for ".." to another path, with the token.
func ValidName(name string) bool {
	return name != "" && len(name) <= 127 && !strings.ContainsFunc(name, func(r rune) bool { return r != '-' && !isAlphanumeric(r) })
}

func nameProblem(name string) string {
	if ValidName(name) {
		return ""
	}
	return "the name " + quote(name) + " is not 1 to 127 letters, digits and hyphens"
}

// ParseVersion reads the version of an object: 32 hex digits or nothing. It returns lower case as Key Vault does, so that a
// version has one spelling in caches and paths. The problem is empty if there is none.
func ParseVersion(text string) (version, problem string) {
	version = lower(text)
	if version == "" || len(version) == 32 && isHex(version) {
		return version, ""
	}
	problem = "the version " + quote(text) + " is not 32 hexadecimal digits"
	if version == "latest" {
		problem += ", leave it out for the latest"
	}
	return "", problem
}

// isHex accepts lower-case digits only.
func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// isGUID accepts the form 8-4-4-4-12 in lower case.
func isGUID(s string) bool {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return false
	}
	return isHex(s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:])
}

// isTenant accepts a GUID, a domain name or auto, in lower case.
func isTenant(s string) bool { return s == TenantAuto || isGUID(s) || isDomain(s) }

// isDomain accepts a DNS name with at least two labels in lower case. The last label needs a letter, which excludes IP
// addresses.
func isDomain(s string) bool {
	labels := strings.Split(s, ".")
	if len(s) > 253 || len(labels) < 2 {
		return false
	}
	for _, label := range labels {
		if len(label) > 63 || !ValidName(label) || strings.Trim(label, "-") != label {
			return false
		}
	}
	return strings.ContainsAny(labels[len(labels)-1], "abcdefghijklmnopqrstuvwxyz")
}

func isAlphanumeric(r rune) bool {
	return '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}

// lower changes ASCII letters only: strings.ToLower turns the Kelvin sign (U+212A) into a k.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
