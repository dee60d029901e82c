package volume

// IsList reports whether the object stands for those that a list names: a selection or a history.
func (o Object) IsList() bool { return o.Kind == KindSelection || o.History != nil }

// History selects the enabled versions of an object, the newest first, from [Object.Version] or from the latest on.
type History struct {
	Most int // versions

	// Each returns the object for one of the versions; index 0 is the newest.
	Each func(index int, version string) Object
}

// Selection selects secrets of a vault by their names and tags. The zero value matches every enabled secret.
type Selection struct {
	Prefix string            // of the name, in any case, as vault names are
	Tags   map[string]string // all must be present with these values

	// Each returns the object for one selected secret, with the Source of the selection. The object is optional: the
	// secret can be deleted or disabled after the list. Each does not validate the name, which comes from a vault; use
	// ValidName, and Tree.Add for the paths.
	Each func(name string) Object
}
