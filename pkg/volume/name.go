package volume

import "strings"

// ValidName says whether Key Vault can hold a secret, certificate or key of this name: 1 to 127 ASCII letters, digits
// and hyphens. The names that a vault lists must pass it, before they are asked for or become file names: the SDK
// would turn ".." into another path, with the token attached.
func ValidName(name string) bool {
	if name == "" || len(name) > 127 {
		return false
	}
	for _, c := range []byte(name) {
		if c != '-' && !isAlphanumeric(c) {
			return false
		}
	}
	return true
}

func nameProblem(name string) string {
	if ValidName(name) {
		return ""
	}
	return "the name " + quote(name) + " is not 1 to 127 letters, digits and hyphens"
}

// parseVersion takes 32 hex digits or nothing. Key Vault writes versions in lower case; upper case is the same number
// and becomes lower case, so that one version has one name in caches and paths.
func parseVersion(text string) (version, problem string) {
	version = lower(text)
	if version == "" || len(version) == 32 && isHex(version) {
		return version, ""
	}
	return "", "the version " + quote(text) + " is not 32 hexadecimal digits"
}

// isHex takes lower-case digits only.
func isHex(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// isGUID takes the form 8-4-4-4-12, lower case.
func isGUID(s string) bool {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return false
	}
	return isHex(s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:])
}

// lower changes ASCII letters only. To strings.ToLower the Kelvin sign (U+212A) is a k.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
