package providerclass

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// objects returns the objects of the list, without those that are repeated.
func (r *reader) objects(vault string) (objects []volume.Object) {
	text := r.get(Objects)
	if text == "" {
		r.missing(Objects, " or empty")
		return nil
	}
	list, problem := Decode(text)
	if problem != "" {
		r.problem(Objects, "%s; it must be a mapping with the key array, and in it one text for each object", problem)
		return nil
	}
	seen := make(map[Object]bool, len(list.Entries))
	tree := volume.NewTree(nil)
	objects = make([]volume.Object, 0, len(list.Entries))
	for i, entry := range list.Entries {
		if len(r.problems) >= maxProblems {
			r.problem(Objects, "the entries after %d are not read", i-1)
			break
		}
		source := Objects + "[" + strconv.Itoa(i) + "]"
		if !r.accepts(source, entry) {
			continue
		}
		normal := entry.Normal()
		if normal.Format == FormatPEM {
			normal.Format = "" // the default
		}
		if seen[normal] {
			continue
		}
		seen[normal] = true
		o := r.object(source, vault, normal)
		first := o
		if o.History != nil {
			first = o.History.Each(0, o.Version)
		}
		for _, output := range first.Outputs {
			if err := tree.Add(output.Path, o); err != nil {
				r.problem(source, "%s", strings.TrimPrefix(err.Error(), source+": "))
			}
		}
		objects = append(objects, o)
	}
	return objects
}

// maxProblems bounds the list.
const maxProblems = 1000

// accepts reports the problems of an entry.
func (r *reader) accepts(source string, e Entry) bool {
	before := len(r.problems)
	within := func(field string) string { return strings.TrimSuffix(source+"."+field, ".") } // field may be empty
	switch {
	case e.Problem != nil:
		r.problem(within(e.Problem.Field), "%s", e.Problem.Text)
		return false
	case e.Mapping:
		r.problem(source, "is a mapping; the provider reads each entry as a text, write it after \"- |\"")
		return false
	}
	if slices.Contains(e.Unknown, objectNotAfter) {
		r.problem(within(objectNotAfter), "is not supported: it selects versions by their expiry, and without it other versions would be written; remove it")
	}
	for _, problem := range append(e.Problems(), e.fileProblems()...) {
		if problem.Field == objectName {
			problem.Text += hint(objectName, e.Unknown, ObjectFields())
		}
		r.problem(within(problem.Field), "%s", problem.Text)
	}
	if e.Name != "" && !volume.ValidName(e.Name) {
		r.problem(within(objectName), "%s is not 1 to 127 letters, digits and hyphens", quote(e.Name))
	}
	if _, problem := volume.ParseVersion(e.Normal().Version); problem != "" {
		r.problem(within(objectVersion), "%s", problem)
	}
	return len(r.problems) == before
}

// object returns the object of the vault and its files.
func (r *reader) object(source, vault string, o Object) volume.Object {
	version, _ := volume.ParseVersion(o.Version) // accepts has checked it
	base := volume.Object{Source: source, Vault: vault, Name: o.Name, Version: version}
	switch o.Type {
	case TypeKey:
		base.Kind = volume.KindKey
	case TypeCert:
		base.Kind = volume.KindPublicCertificate
	default:
		base.Kind = volume.KindSecret
		base.Encoding = volume.Encoding(cmp.Or(o.Encoding, string(volume.UTF8)))
		base.KeyFormat = volume.PKCS8
		base.ChainOrder = volume.ChainOrderKeyID
		if r.options.FileOrder {
			base.ChainOrder = volume.ChainOrderFile
		}
	}
	id := o.Type + "/" + o.Name
	if o.History == 1 {
		return r.write(base, o, "", id)
	}
	all := base
	all.History = &volume.History{
		Most: min(int(o.History), volume.MaxEntries),
		Each: func(index int, version string) volume.Object {
			suffix := "/" + strconv.Itoa(index)
			one := r.write(base, o, suffix, id+suffix)
			one.Version = version
			return one
		},
	}
	return all
}

// write adds the id and the files of one version.
func (r *reader) write(one volume.Object, o Object, suffix, id string) volume.Object {
	path, mode := o.Alias+suffix, r.options.Mode
	if own, _ := o.mode(); own != 0 {
		mode = own
	}
	part := volume.PartPEMOrValue
	switch {
	case o.Type == TypeKey:
		part = volume.PartPublicKey
	case o.Type == TypeCert:
		part = volume.PartCert
	case o.Format == FormatPFX:
		part = volume.PartValue
	}
	if o.Type == TypeSecret && r.options.SeparateFiles {
		one.Split = []volume.Output{
			{Part: volume.PartCertBlocks, Path: path + ".crt", Mode: mode}, {Part: volume.PartOtherBlocks, Path: path + ".key", Mode: mode},
		}
	}
	one.ID = id
	one.Outputs = []volume.Output{{Part: part, Path: path, Mode: mode}}
	return one
}
