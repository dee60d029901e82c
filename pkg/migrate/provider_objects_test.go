package migrate_test

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// providerObject is one entry of the objects.
type providerObject struct {
	Name       string `yaml:"objectName"`
	Type       string `yaml:"objectType"`
	Alias      string `yaml:"objectAlias"`
	Version    string `yaml:"objectVersion"`
	History    int32  `yaml:"objectVersionHistory"`
	Format     string `yaml:"objectFormat"`
	Encoding   string `yaml:"objectEncoding"`
	Permission string `yaml:"filePermission"`
}

var providerObjectReads = []string{
	"objectName", "objectType", "objectAlias", "objectVersion", "objectVersionHistory", "objectFormat", "objectEncoding", "filePermission",
}

// providerFiles reads the parameter objects: YAML (or JSON) with a list of texts, of which each is YAML again. An entry that is
// a mapping itself is refused by the provider of today. The model reads it, because only one thing can be meant.
func providerFiles(text string) (files map[string]askedFile, unread []string, err error) {
	if text == "" {
		return nil, nil, errors.New("no objects")
	}
	var list struct {
		Array []yaml.Node          `yaml:"array"`
		Other map[string]yaml.Node `yaml:",inline"`
	}
	if err := yaml.Unmarshal([]byte(text), &list); err != nil {
		return nil, nil, errors.New("objects is not a list in array")
	}
	if len(list.Array) == 0 {
		return nil, nil, errors.New("objects has no entry in array")
	}
	unread = slices.Sorted(maps.Keys(list.Other))
	files = map[string]askedFile{}
	for i, node := range list.Array {
		o, more, err := providerEntry(&node)
		if err != nil {
			return nil, nil, fmt.Errorf("entry %d: %w", i, err)
		}
		unread = append(unread, more...)
		if err := o.write(files); err != nil {
			return nil, nil, fmt.Errorf("entry %d: %w", i, err)
		}
	}
	for p := range files {
		for folder := path.Dir(p); folder != "."; folder = path.Dir(folder) {
			if _, both := files[folder]; both {
				return nil, nil, fmt.Errorf("%s is a file and a folder", folder)
			}
		}
	}
	return files, unread, nil
}

func providerEntry(node *yaml.Node) (o providerObject, unread []string, err error) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node.Kind == yaml.ScalarNode {
		var text string
		var document yaml.Node
		if node.Decode(&text) != nil || yaml.Unmarshal([]byte(text), &document) != nil {
			return o, nil, errors.New("not YAML")
		}
		node = &document
	}
	var all map[string]any
	if errors.Join(node.Decode(&o), node.Decode(&all)) != nil {
		return o, nil, errors.New("not a mapping of texts, and a number for the history")
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !slices.Contains(providerObjectReads, name) {
			unread = append(unread, name)
		}
	}
	for _, field := range []*string{&o.Name, &o.Type, &o.Alias, &o.Version, &o.Format, &o.Encoding, &o.Permission} {
		*field = strings.TrimSpace(*field)
	}
	err = o.check()
	return o, unread, err
}

var providerObjectName = regexp.MustCompile(`^[-0-9a-zA-Z]{1,127}$`) // the vault refuses others

// check: the type is one of three words in lower case. The other words may be in any case.
func (o *providerObject) check() error {
	format, encoding, file := strings.ToLower(o.Format), strings.ToLower(o.Encoding), o.file()
	switch {
	case !slices.Contains([]string{"", "pem", "pfx"}, format), o.Format == "pfx" && o.Type != "secret":
		return fmt.Errorf("objectFormat %q of a %s", o.Format, o.Type)
	case !slices.Contains([]string{"", "utf-8", "base64", "hex"}, encoding), encoding != "" && o.Type != "secret":
		return fmt.Errorf("objectEncoding %q of a %s", o.Encoding, o.Type)
	case file == "", file == ".", path.IsAbs(file), strings.Contains(file, ".."):
		return fmt.Errorf("file name %q", file)
	case !slices.Contains([]string{"secret", "key", "cert"}, o.Type):
		return fmt.Errorf("objectType %q", o.Type)
	case !providerObjectName.MatchString(o.Name):
		return fmt.Errorf("objectName %q", o.Name)
	}
	return nil
}

func (o *providerObject) file() string {
	if o.Alias != "" {
		return o.Alias
	}
	return o.Name
}

// mode returns the mode of the file. The provider gives a file with an unreadable permission the mode 0000.
func (o *providerObject) mode() (string, error) {
	if o.Permission == "" {
		return "0644", nil
	}
	mode, err := strconv.ParseUint(o.Permission, 8, 32)
	if err != nil || mode > 0o777 {
		return "", fmt.Errorf("filePermission %q", o.Permission)
	}
	return fmt.Sprintf("%04o", mode), nil
}

// write adds the files of the object. With a history there is a folder: one file for each version, and one more than asked for.
func (o *providerObject) write(files map[string]askedFile) error {
	mode, err := o.mode()
	if err != nil {
		return err
	}
	base := path.Clean(o.file())
	if o.History <= 1 {
		return putFile(files, base, askedFile{mode, o.contents()})
	}
	for i := range o.History + 1 {
		if err := putFile(files, path.Join(base, strconv.Itoa(int(i))), askedFile{mode, []string{fmt.Sprintf("version %d of %v", i, o.contents())}}); err != nil {
			return err
		}
	}
	return nil
}

func putFile(files map[string]askedFile, p string, f askedFile) error {
	if other, twice := files[p]; twice && other.String() != f.String() {
		return fmt.Errorf("two objects write %s", p)
	}
	files[p] = f
	return nil
}

// contents: the value of a secret that backs a certificate becomes a PEM, unless the format is PFX. A PEM is not decoded, so
// a secret with an encoding backs none. The driver reads "latest" as no version, as the provider's documents say.
func (o *providerObject) contents() []string {
	version := o.Version
	if strings.EqualFold(version, "latest") {
		version = ""
	}
	switch encoding := strings.ToLower(o.Encoding); {
	case o.Type == "key":
		return []string{content("public key of", o.Name, version)}
	case o.Type == "cert":
		return []string{content("leaf of", o.Name, version)}
	case encoding != "" && encoding != "utf-8":
		return []string{content(encoding+" of", o.Name, version)}
	case strings.EqualFold(o.Format, "pfx"):
		return []string{content("value of", o.Name, version)}
	}
	return []string{content("value of", o.Name, version), content("pem of", o.Name, version)}
}

func content(what, name, version string) string {
	return strings.TrimSuffix(what+" "+name+"@"+strings.ToLower(version), "@")
}
