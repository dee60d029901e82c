package provider

import (
	"regexp"
	"strings"
)

// release is a semantic version, with or without the v of a tag. A pre-release has an identifier that is more than digits,
// because a number must not begin with 0.
var release = regexp.MustCompile(`^v?(\d+\.\d+\.\d+(-[0-9A-Za-z.-]*[A-Za-z-][0-9A-Za-z.-]*)?(\+[0-9A-Za-z.-]+)?)$`)

// noVersion is what an identifier of a semantic version must not have.
var noVersion = regexp.MustCompile(`[^0-9A-Za-z-]+`)

// semantic makes a semantic version of the version of a build, which without a tag is a commit or "(devel)". Versions of
// the Secrets Store CSI Driver compare it with a minimum.
func semantic(build string) string {
	if match := release.FindStringSubmatch(build); match != nil {
		return match[1]
	}
	return "0.0.0-dev-" + strings.Trim(noVersion.ReplaceAllString(build, "-"), "-")
}
