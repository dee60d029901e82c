package migrate

import (
	"errors"
	"slices"

	"go.yaml.in/yaml/v3"
)

// changeKind is a kind of change of a tree.
type changeKind int

const (
	removeItem     changeKind = iota // target is an item of the list parent
	insertItems                      // values after the item target of the list parent
	removePair                       // target is a key of the mapping parent
	replacePair                      // target is a key of the mapping parent; it becomes key with values[0]
	setScalar                        // target gets the value key
	removeDocument                   // target is a document
	appendDocument                   // values[0] becomes the stream's last document
)

// change is one change of a tree. Its nodes are those of the stream as written: an alias is not resolved.
type change struct {
	kind           changeKind
	parent, target *yaml.Node
	key            string
	values         []*yaml.Node
}

// add adds changes that belong together: if one of them cannot be made in the text, none is.
func (s *stream) add(changes []change) error {
	for _, c := range changes {
		switch {
		case c.target == nil && c.kind != appendDocument:
			return errors.New("something that must change is not there")
		case c.parent != nil && position(c.parent, c.target) < 0:
			return unsupported(c.target, "it is merged in from elsewhere")
		}
	}
	if err := s.mayChange(changes); err != nil {
		return err
	}
	var edits []edit
	for _, c := range changes {
		made, err := s.edit(c)
		if err != nil {
			return err
		}
		edits = append(edits, made...)
	}
	if _, err := inOrder(slices.Concat(s.edits, edits)); err != nil {
		return err
	}
	s.edits = append(s.edits, edits...)
	s.changes = append(s.changes, changes...)
	return nil
}

// mayChange refuses changes of text that an alias repeats elsewhere.
func (s *stream) mayChange(changes []change) error {
	removed := map[*yaml.Node]bool{}
	for _, c := range changes {
		switch c.kind {
		case removeItem, removeDocument:
			removed[c.target] = true
		case removePair, replacePair:
			removed[c.target] = true
			removed[valueOf(c.parent, c.target)] = true
		}
	}
	goes := func(node *yaml.Node) bool {
		for ; node != nil; node = s.parents[node] {
			if removed[node] {
				return true
			}
		}
		return false
	}
	within := func(node, ancestor *yaml.Node) bool {
		for ; node != nil; node = s.parents[node] {
			if node == ancestor {
				return true
			}
		}
		return false
	}
	for _, alias := range s.aliases {
		if goes(alias) {
			continue
		}
		if goes(alias.Alias) {
			return sharedText(alias)
		}
		for _, c := range changes {
			if c.target != nil && within(c.target, alias.Alias) {
				return sharedText(alias)
			}
		}
	}
	return nil
}

func sharedText(alias *yaml.Node) error {
	return unsupported(alias.Alias, "the alias *%s in line %d repeats it; write it out there", alias.Value, alias.Line)
}

// changed returns the documents with all changes. It changes the trees, so it may be called only once.
func (s *stream) changed() []*yaml.Node {
	for _, c := range s.changes {
		switch at := position(c.parent, c.target); c.kind {
		case removeItem:
			c.parent.Content = slices.Delete(c.parent.Content, at, at+1)
		case insertItems:
			c.parent.Content = slices.Insert(c.parent.Content, at+1, c.values...)
		case removePair:
			c.parent.Content = slices.Delete(c.parent.Content, at, at+2)
		case replacePair:
			c.parent.Content[at], c.parent.Content[at+1] = scalar(c.key), c.values[0]
		case setScalar:
			c.target.Value, c.target.Tag = c.key, "!!str"
		case removeDocument:
			s.documents = slices.DeleteFunc(s.documents, func(d *yaml.Node) bool { return d == c.target })
		case appendDocument:
			s.documents = append(s.documents, &yaml.Node{Kind: yaml.DocumentNode, Content: c.values})
		}
	}
	return s.documents
}

func position(parent, child *yaml.Node) int {
	if parent == nil {
		return -1
	}
	return slices.Index(parent.Content, child)
}

func valueOf(mapping, key *yaml.Node) *yaml.Node { return mapping.Content[position(mapping, key)+1] }
