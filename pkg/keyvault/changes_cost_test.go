package keyvault_test

import (
	"testing"
	"time"
)

// An object that is absent, as another volume has just found out, does not hide when the others were read.
func TestAbsentObjectsDoNotHideReads(t *testing.T) {
	t.Parallel()
	w := newTimedFixture(t)
	absent := secret("absent")
	absent.Optional = true
	r := lists(w.asServicePrincipal(append(w.set(2, "s"), absent)...))
	w.later(time.Hour)
	read := w.now()
	w.fetch(first("one", r))
	w.fetch(first("two", r))
	w.refreshed("one", r)
	content, err := w.client.Fetch(t.Context(), refresh("two", r))
	w.must(err)
	if !content.Read.Equal(read) {
		t.Errorf("read at %v, want %v", content.Read, read)
	}
}
