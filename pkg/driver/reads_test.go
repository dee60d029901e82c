package driver

import (
	"context"
	"fmt"
	"testing"
)

// A vault that hangs keeps only its own reads of a namespace, and many of them no more than the namespace's: each read has
// a connection.
func TestReadsAreBounded(t *testing.T) {
	t.Parallel()
	a := newAdmission()
	ended, end := context.WithCancel(t.Context())
	end()
	oldest, p, other := enter(t, a, "shop"), enter(t, a, "shop"), enter(t, a, "other")
	enter(t, a, "other")
	var ends []func()
	read := func(p *admitted, vault string) bool {
		done, err := p.Read(ended, vault)
		if err == nil {
			ends = append(ends, done)
		}
		return err == nil
	}
	taken := 0
	for vault := range 2 * perNamespaceReads / perVault {
		for range 2 * perVault {
			if read(p, fmt.Sprint(vault)) {
				taken++
			}
		}
		if want := min((vault+1)*perVault, perNamespaceReads); taken != want {
			t.Fatalf("%d reads of %d vaults at the same time, want %d", taken, vault+1, want)
		}
	}
	if !read(oldest, "0") {
		t.Error("the oldest waits")
	}
	if !read(other, "0") {
		t.Error("another namespace waits")
	}
	for _, done := range ends {
		done()
	}
	if load := p.load; load.reading != 0 || len(load.reads) != 0 {
		t.Errorf("left behind: %d, %v", load.reading, load.reads)
	}
	if !read(p, "0") {
		t.Error("a read waits for none")
	}
}
