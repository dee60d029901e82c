package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/test/node"
)

const root = "../.."

// The README shows the picture. A change of what the demo prints must change it; times, numbers, ids and paths may differ.
func TestThePictureShowsTheDemo(t *testing.T) {
	t.Parallel()
	committed, err := os.ReadFile(filepath.Join(root, picture))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := node.DaemonBinary(t.Context()); err != nil { // kvcsi looks for it beside itself
		t.Fatal(err)
	}
	kvcsi, err := node.Binary(t.Context(), "kvcsi")
	if err != nil {
		t.Fatal(err)
	}
	live, err := record(t.Context(), kvcsi)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(shape(live), shape(lines(string(committed)))); diff != "" {
		t.Errorf("%s (-demo +picture):\n%s\nmake generate GENERATE=recording draws it again", picture, diff)
	}
}

func TestDrawKeepsTheText(t *testing.T) {
	t.Parallel()
	want := []string{prompt, "", "1. a < b & \"c\"", strings.Repeat("long ", columns), "  end"}
	svg := draw(want)
	if diff := cmp.Diff(want, lines(svg)); diff != "" {
		t.Errorf("lines of the picture (-want +got):\n%s", diff)
	}
}

// GitHub shows the picture on a page that loads nothing else.
func TestThePictureStandsAlone(t *testing.T) {
	t.Parallel()
	committed, err := os.ReadFile(filepath.Join(root, picture))
	if err != nil {
		t.Fatal(err)
	}
	if len(committed) >= 200_000 {
		t.Errorf("%s has %d bytes, 200,000 or more", picture, len(committed))
	}
	for _, never := range []string{"<script", "href", "url(", "@import", "http://127", "https://fonts", "%!"} {
		if strings.Contains(string(committed), never) {
			t.Errorf("%s contains %q", picture, never)
		}
	}
	for _, needed := range []string{"prefers-color-scheme:dark", "prefers-reduced-motion:no-preference", "<title>"} {
		if !strings.Contains(string(committed), needed) {
			t.Errorf("%s does not contain %q", picture, needed)
		}
	}
}

// shape is what two runs have in common.
func shape(lines []string) []string {
	replacements := []struct {
		pattern *regexp.Regexp
		by      string
	}{
		{regexp.MustCompile(`tmpfs on \S+ \(.*\)`), "tmpfs on PATH (OPTIONS)"},
		{regexp.MustCompile(`[0-9.]+(µs|ms|s)\b`), "TIME"},
		{regexp.MustCompile(`[0-9]+`), "N"},
		{regexp.MustCompile(` +`), " "},
	}
	all := make([]string, 0, len(lines))
	for _, line := range lines {
		for _, r := range replacements {
			line = r.pattern.ReplaceAllString(line, r.by)
		}
		all = append(all, line)
	}
	return all
}
