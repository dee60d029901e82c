package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestCheckLinks(t *testing.T) {
	t.Parallel()
	site, repository := t.TempDir(), t.TempDir()
	write(t, filepath.Join(repository, "Makefile"), "all:\n")
	write(t, filepath.Join(site, "latest", "style.css"), "")
	write(t, filepath.Join(site, "latest", "docs", "other.html"), `<h2 id="there">There</h2><a href="../index.html#top">up</a>`)
	write(t, filepath.Join(site, "latest", "index.html"), `<head><link rel="stylesheet" href="style.css"></head><h1 id="top">Page</h1>
<a href="#top">1</a> <a href="docs/other.html#there">2</a> <a href="https://example.com/x">3</a>
<a href="`+blob+`main/Makefile#L1">4</a> <a href="`+blob+`v0.1.0/gone">5</a>
<a href="#nowhere">6</a> <a href="docs/other.html#nowhere">7</a> <a href="docs/gone.html">8</a> <a href="`+blob+`main/gone">9</a>
<img src="https://example.com/x.png">`)

	got, err := checkLinks(site, repository)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"latest/index.html: #nowhere: latest/index.html has no such anchor",
		"latest/index.html: docs/other.html#nowhere: latest/docs/other.html has no such anchor",
		"latest/index.html: docs/gone.html: no such file",
		"latest/index.html: " + blob + "main/gone: the repository has no such file",
		"latest/index.html: loads https://example.com/x.png: the site must not load from other hosts",
	}
	if !slices.Equal(got, want) {
		t.Errorf("problems:\n got %q\nwant %q", got, want)
	}
}

func TestCheckLinksOfNothing(t *testing.T) {
	t.Parallel()
	if _, err := checkLinks(t.TempDir(), "."); err == nil {
		t.Error("a site without pages passes")
	}
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
