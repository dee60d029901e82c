package volume

import (
	"fmt"
	"strings"
	"testing"
)

// What is remembered is bounded in number and in size.
func TestListsAreBounded(t *testing.T) {
	t.Parallel()
	var l lists
	for i := range 10 * maxLists {
		key := listKey{text: fmt.Sprint(i)}
		l.put(key, []Object{{Name: key.text}})
		if objects, known := l.get(key); !known || objects[0].Name != key.text || len(l.seen) > maxLists {
			t.Fatalf("after %d lists: %v, %t, of %d", i+1, objects, known, len(l.seen))
		}
	}
	l.put(listKey{text: strings.Repeat("#", maxListBytes+1)}, nil)
	for key := range l.seen {
		if len(key.text) > maxListBytes {
			t.Errorf("a list of %d bytes is remembered", len(key.text))
		}
	}
}
