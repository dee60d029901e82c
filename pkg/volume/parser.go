package volume

import "sync"

// Parser is [Parse] for many volumes with the same defaults. It remembers what the attribute objects of some of them meant:
// the pods of one workload all say the same, and its YAML takes half of the time of a Parse. It gives what Parse gives,
// and is safe for concurrent use.
type Parser struct {
	defaults Defaults
	lists    lists
}

// NewParser makes a Parser that remembers nothing yet.
func NewParser(defaults Defaults) *Parser { return &Parser{defaults: defaults} }

// Parse does what the function [Parse] does.
func (p *Parser) Parse(attributes, secrets map[string]string) (Request, error) {
	return parse(attributes, secrets, p.defaults, &p.lists)
}

const (
	// maxLists and maxListBytes bound what is remembered to 3 MiB, which takes malice: 300 bytes for an object, and at
	// least 12 bytes of text for each.
	maxLists     = 32
	maxListBytes = 4 << 10
)

// listKey is all that the meaning of a list depends on, beside the defaults.
type listKey struct {
	text, vault string
	order       ChainOrder
}

// lists are the attributes objects that are remembered; only such as have no problem. Nobody changes an [Object] once it
// is made, so that requests can share them. A nil *lists remembers nothing.
type lists struct {
	mu   sync.Mutex
	seen map[listKey][]Object
}

func (l *lists) get(key listKey) (objects []Object, known bool) {
	if l == nil {
		return nil, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	objects, known = l.seen[key]
	return objects, known
}

// put forgets all others when there are too many: those that are in use are soon back.
func (l *lists) put(key listKey, objects []Object) {
	if l == nil || len(key.text) > maxListBytes {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen == nil || len(l.seen) == maxLists {
		l.seen = make(map[listKey][]Object)
	}
	l.seen[key] = objects
}
