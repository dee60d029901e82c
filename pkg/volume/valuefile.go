package volume

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ValueFile is a file that is made of several values: the objects whose [Object.In] it is, in their order. It exists even
// if none of them does.
type ValueFile struct {
	Source string // attribute and position, for errors: "objects[0]"
	Format Format
	Path   string      // slash-separated, relative, validated
	Mode   fs.FileMode // permission bits; 0 means the default of the volume (0644, with fsGroup 0640)
}

// Object returns an object that stands for the file in a [Tree]. It is not in any vault.
func (f *ValueFile) Object() Object { return Object{Source: f.Source} }

// Format is how a [ValueFile] is written.
type Format string

// The formats of a [ValueFile].
const (
	FormatEnv        Format = "env"        // NAME='value' lines, which sh and Kubernetes' fileKeyRef (KEP-3721) read alike
	FormatJSON       Format = "json"       // one object of strings
	FormatProperties Format = "properties" // java.util.Properties, in ASCII
)

func (f Format) valid() bool { return f == FormatEnv || f == FormatJSON || f == FormatProperties }

// NameOf returns the name of an entry that is made from the name of its secret. In an env file, letters are upper-case
// and a hyphen becomes an underscore. The prefix of a selection stays: otherwise whoever may write its secrets could set
// PATH or LD_PRELOAD.
func (f Format) NameOf(secret string) string {
	if f != FormatEnv {
		return secret
	}
	return strings.ReplaceAll(strings.ToUpper(secret), "-", "_")
}

// The limits of a name. That of a variable is in the API reference of fileKeyRef.
const (
	maxVariable = 128
	maxKey      = 256
)

// NameProblem returns why a name cannot be that of an entry, or nothing.
func (f Format) NameProblem(name string) string {
	switch {
	case f == FormatEnv && !isVariable(name):
		return fmt.Sprintf("the name %s is not that of a variable, 1 to %d letters, digits and underscores, no digit first", quote(name), maxVariable)
	case f == FormatEnv && slices.Contains(shellVariables, name):
		return fmt.Sprintf("the name %s is that of a variable which a shell sets itself, choose another one", quote(name))
	case name == "":
		return "the name is empty"
	case len(name) > maxKey:
		return fmt.Sprintf("the name %s is longer than %d bytes", quote(name), maxKey)
	case !utf8.ValidString(name), strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Sprintf("the name %s is not UTF-8 without control characters", quote(name))
	}
	return ""
}

// isVariable is the rule of POSIX shells. fileKeyRef alone would accept more.
func isVariable(name string) bool {
	return name != "" && len(name) <= maxVariable && (name[0] < '0' || name[0] > '9') &&
		!strings.ContainsFunc(name, func(r rune) bool { return r != '_' && !isAlphanumeric(r) })
}

// shellVariables do not have the value that a file sets: they are read-only in bash, which then stops reading, or have a
// meaning for bash or dash. A test tries them.
var shellVariables = []string{
	"BASHOPTS", "BASHPID", "BASH_ALIASES", "BASH_ARGC", "BASH_ARGV", "BASH_ARGV0", "BASH_CMDS", "BASH_LINENO", "BASH_MONOSECONDS",
	"BASH_SOURCE", "BASH_SUBSHELL", "BASH_TRAPSIG", "BASH_VERSINFO", "COMP_WORDBREAKS", "DIRSTACK", "EPOCHREALTIME", "EPOCHSECONDS",
	"EUID", "FUNCNAME", "GROUPS", "HISTCMD", "LINENO", "OPTIND", "PIPESTATUS", "PPID", "RANDOM", "SECONDS", "SHELLOPTS", "SHLVL",
	"SRANDOM", "UID", "_",
}
