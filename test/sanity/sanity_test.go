package main

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
)

func TestMain(m *testing.M) { os.Exit(mountns.Main(m)) }

// wantPassed is the number of specs that must run, because skipped specs are no failures.
const wantPassed = 34

func TestSanity(t *testing.T) {
	var out bytes.Buffer
	code, err := run(t.Context(), io.MultiWriter(os.Stdout, &out), nil)
	if code != 0 || err != nil {
		t.Errorf("csi-sanity ended with %d, %v; want 0", code, err)
	}
	passed := 0
	for _, m := range regexp.MustCompile(`SUCCESS! -- (\d+) Passed`).FindAllStringSubmatch(out.String(), -1) {
		count, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		passed += count
	}
	if passed != wantPassed {
		t.Errorf("%d specs passed, want %d", passed, wantPassed)
	}
}
