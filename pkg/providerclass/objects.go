package providerclass

import (
	"cmp"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// The values of objectType.
const (
	TypeSecret = "secret"
	TypeKey    = "key"
	TypeCert   = "cert"
)

// The values of objectFormat.
const (
	FormatPEM = "pem"
	FormatPFX = "pfx"
)

// Object is one entry of the parameter objects. Its texts have no white space around them.
type Object struct {
	Name, Type, Version, Alias, Format, Encoding, Permission string

	History int32 // up to 1 is one version in one file
}

// Map returns the object with its texts changed by f.
func (o Object) Map(f func(string) string) Object {
	for _, text := range []*string{&o.Name, &o.Type, &o.Version, &o.Alias, &o.Format, &o.Encoding, &o.Permission} {
		*text = f(*text)
	}
	return o
}

// Problems returns why the provider refuses the fields. Field is a field of the object.
func (o Object) Problems() (problems volume.Problems) {
	problem := func(field, text string) { problems = append(problems, volume.Problem{Field: field, Text: text}) }
	if o.Name == "" {
		problem(objectName, "is missing")
	}
	if !slices.Contains([]string{TypeSecret, TypeKey, TypeCert}, o.Type) {
		problem(objectType, quote(o.Type)+" is none of secret, key and cert")
	}
	switch format := strings.ToLower(o.Format); {
	case !slices.Contains([]string{"", FormatPEM, FormatPFX}, format):
		problem(objectFormat, quote(format)+" is neither pem nor pfx")
	case o.Format == FormatPFX && o.Type != TypeSecret: // in capitals it has no effect there
		problem(objectFormat, "pfx is for secrets only")
	}
	switch encoding := volume.Encoding(strings.ToLower(o.Encoding)); {
	case !slices.Contains([]volume.Encoding{"", volume.UTF8, volume.Base64, volume.Hex}, encoding):
		problem(objectEncoding, quote(string(encoding))+" is none of utf-8, base64 and hex")
	case encoding != "" && o.Type != TypeSecret:
		problem(objectEncoding, "is for secrets only")
	}
	return problems
}

// fileProblems returns why the provider refuses the path or, in filePermission, would write a file with the mode 0000.
func (o Object) fileProblems() (problems volume.Problems) {
	switch {
	case path.IsAbs(o.Alias):
		problems = append(problems, volume.Problem{Field: objectAlias, Text: quote(o.Alias) + " is absolute, paths are relative to the volume"})
	case strings.Contains(o.Alias, ".."):
		problems = append(problems, volume.Problem{Field: objectAlias, Text: quote(o.Alias) + ` contains ".."`})
	}
	if _, ok := o.mode(); !ok {
		problems = append(problems, volume.Problem{
			Field: filePermission, Text: quote(o.Permission) + ` must be permission bits in octal such as "0440"`,
		})
	}
	return problems
}

// mode returns the permission bits, 0 if there are none.
func (o Object) mode() (mode fs.FileMode, ok bool) {
	if o.Permission == "" {
		return 0, true
	}
	bits, err := strconv.ParseUint(o.Permission, 8, 16)
	return fs.FileMode(bits), err == nil && bits > 0 && bits <= 0o777
}

// Normal returns the object in the form in which equal objects have equal fields. The alias is the path of the file, or
// of the folder of a history. The version "latest" is the latest: to the provider it is the name of a version, which no vault has.
func (o Object) Normal() Object {
	o.Alias = path.Clean(cmp.Or(o.Alias, o.Name)) // as the Secrets Store CSI Driver writes it
	if strings.EqualFold(o.Version, "latest") {
		o.Version = ""
	}
	o.Format, o.Encoding = strings.ToLower(o.Format), strings.ToLower(o.Encoding)
	if o.Encoding == string(volume.UTF8) {
		o.Encoding = ""
	}
	o.History = max(o.History, 1)
	return o
}

// quote makes a text of a class safe for an error.
func quote(s string) string { return strconv.QuoteToASCII(volume.OneLine(s, 128)) }
