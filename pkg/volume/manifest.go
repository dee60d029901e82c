package volume

// Manifest is a file that lists the objects of a set with their versions.
type Manifest struct {
	Source string // attribute and position, for errors: "objects[0]"
	Output
	Tags bool // the tags of the objects too
}

// kindManifest is the kind of an entry of the attribute objects that is no object of a vault: it becomes a [Manifest].
const kindManifest Kind = "manifest"

// PartManifest is the part of the file of a [Manifest].
const PartManifest Part = "manifest"

// manifest reads a manifest.
func (m *mapping) manifest() {
	before := m.parser.found
	manifest := Manifest{
		Source: m.source,
		Output: Output{Part: PartManifest, Path: m.path("manifest", ""), Mode: m.mode()},
		Tags:   m.boolean("tags"),
	}
	if m.parser.found == before {
		m.parser.manifests = append(m.parser.manifests, manifest)
	}
}
