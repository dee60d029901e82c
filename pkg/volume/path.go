package volume

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// The limits of a path. A component is bounded by the file system (NAME_MAX). A path stays far enough below PATH_MAX
// (4096) to leave room for the mount point in front of it; the depth keeps a hostile list from making folders
// without end.
const (
	maxComponent = 255
	maxPath      = 1024
	maxDepth     = 32
)

// pathProblem says what is wrong with a relative, slash-separated path, or nothing. Components that begin with ".."
// belong to the volume's own administration, as in every atomically written volume of the kubelet.
func pathProblem(path string) string {
	switch {
	case path == "":
		return "is empty"
	case len(path) > maxPath:
		return "is longer than 1024 bytes"
	case !utf8.ValidString(path):
		return "is not valid UTF-8"
	case strings.ContainsFunc(path, unicode.IsControl):
		return "holds a control character"
	case path[0] == '/':
		return "is absolute, paths are relative to the volume"
	case strings.Count(path, "/") >= maxDepth:
		return "has more than 32 components"
	}
	for component := range strings.SplitSeq(path, "/") {
		switch {
		case component == "":
			return "has an empty component"
		case component == ".":
			return `has the component "."`
		case strings.HasPrefix(component, ".."):
			return `has a component that begins with ".."`
		case len(component) > maxComponent:
			return "has a component longer than 255 bytes"
		}
	}
	return ""
}

// fileNameProblem says what keeps a name from being a plain file name, or nothing.
func fileNameProblem(name string) string {
	if strings.Contains(name, "/") {
		return "is not a plain file name"
	}
	switch problem := pathProblem(name); {
	case problem == "":
		return ""
	case name == "." || strings.HasPrefix(name, ".."):
		return "is not a plain file name"
	case len(name) > maxComponent:
		return "is longer than 255 bytes"
	default:
		return problem
	}
}
