package main

import (
	"path/filepath"
	"testing"
	"time"
)

// A change is seen where the kernel reports none: in a virtual machine that has the volume from its node (Kata Containers).
func TestPoll(t *testing.T) {
	t.Parallel()
	volume := t.TempDir()
	replace(t, volume, "..0", map[string]string{"a.env": "A='0'\n"})
	all, err := locate([]string{filepath.Join(volume, "a.env")})
	if err != nil {
		t.Fatal(err)
	}
	seen, err := all.current()
	if err != nil {
		t.Fatal(err)
	}
	ticks, changes := make(chan time.Time), make(chan error, 10)
	go all.poll(seen, ticks, changes)
	look := func(want int) {
		t.Helper()
		ticks <- time.Time{}
		ticks <- time.Time{} // the first is done
		if got := len(changes); got != want {
			t.Errorf("%d changes, want %d", got, want)
		}
	}
	look(0)
	replace(t, volume, "..1", map[string]string{"a.env": "A='1'\n"})
	look(1)
	look(1)
	replace(t, volume, "..2", map[string]string{"a.env": "A='2'\n"})
	look(2)
	close(ticks)
}
