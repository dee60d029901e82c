package providerclass

import (
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

// Problems returns why the provider refuses the object, or would make a file that nobody can use. Field is a field of the object.
func (o Object) Problems() (problems volume.Problems) {
	problem := func(field, text string) { problems = append(problems, volume.Problem{Field: field, Text: text}) }
	secret := o.Type == TypeSecret
	if o.Name == "" {
		problem(objectName, "is missing")
	}
	if !slices.Contains([]string{TypeSecret, TypeKey, TypeCert}, o.Type) {
		problem(objectType, quote(o.Type)+" is none of secret, key and cert")
	}
	switch {
	case o.Format != "" && !strings.EqualFold(o.Format, FormatPEM) && !strings.EqualFold(o.Format, FormatPFX):
		problem(objectFormat, quote(o.Format)+" is neither pem nor pfx")
	case o.Format == FormatPFX && !secret: // PFX in capitals has no effect there
		problem(objectFormat, "pfx is for secrets only")
	}
	switch encodings := []string{"", string(volume.UTF8), string(volume.Base64), string(volume.Hex)}; {
	case !slices.Contains(encodings, strings.ToLower(o.Encoding)):
		problem(objectEncoding, quote(o.Encoding)+" is none of utf-8, base64 and hex")
	case o.Encoding != "" && !secret:
		problem(objectEncoding, "is for secrets only")
	}
	switch {
	case path.IsAbs(o.Alias):
		problem(objectAlias, quote(o.Alias)+" is absolute, paths are relative to the volume")
	case strings.Contains(o.Alias, ".."):
		problem(objectAlias, quote(o.Alias)+` contains ".."`)
	}
	if _, ok := o.mode(); !ok {
		problem(filePermission, quote(o.Permission)+` is not permission bits in octal such as "0440"`)
	}
	return problems
}

// mode returns the permission bits, 0 if there are none. The provider takes what it cannot read as mode 0000.
func (o Object) mode() (bits uint64, ok bool) {
	if o.Permission == "" {
		return 0, true
	}
	bits, err := strconv.ParseUint(o.Permission, 8, 32)
	return bits, err == nil && bits > 0 && bits <= 0o777
}

// Normal returns the object in the form in which equal objects have equal fields. The alias is the path of the file, or
// of the folder of a history. The version "latest" is the latest: to the provider it is the name of a version, which no vault has.
func (o Object) Normal() Object {
	if o.Alias == "" {
		o.Alias = o.Name
	}
	o.Alias = path.Clean(o.Alias) // as the Secrets Store CSI Driver writes it
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
