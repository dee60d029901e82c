package driver

import (
	"context"
	"fmt"
	"testing"
)

// A vault that hangs takes only as many reads of a namespace as one vault may have, and all vaults together take only as
// many as the namespace may have: each read has a connection.
func TestReadsAreBounded(t *testing.T) {
	t.Parallel()
	a := newAdmission()
	ended, end := context.WithCancel(t.Context())
	end()
	oldest, p, other := admit(t, a, "shop"), admit(t, a, "shop"), admit(t, a, "other")
	admit(t, a, "other")
	var ends []func()
	read := func(p *reservation, vault string) bool {
		done, err := p.Read(ended, vault)
		if err == nil {
			ends = append(ends, done)
		}
		return err == nil
	}
	taken := 0
	for vault := range 2 * namespaceReads / vaultReads {
		for range 2 * vaultReads {
			if read(p, fmt.Sprint(vault)) {
				taken++
			}
		}
		if want := min((vault+1)*vaultReads, namespaceReads); taken != want {
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
		t.Error("a read waits for nothing")
	}
}
