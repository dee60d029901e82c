package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const right = `on: push
permissions: {}
jobs:
  job:
    runs-on: ubuntu-24.04
    timeout-minutes: 5
    permissions:
      contents: read
    steps:
      - uses: actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1
        with:
          persist-credentials: false
      - uses: actions/setup-go@b7ad1dad31e06c5925ef5d2fc7ad053ef454303e # v7.0.0
      - run: echo "$REF"
        env:
          REF: ${{ github.ref }}
`

// TestCheck changes one thing of a workflow that is right.
func TestCheck(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ from, to, want string }{
		"nothing":            {"", "", ""},
		"an unknown key":     {"timeout-minutes", "timeout-hours", `unexpected key "timeout-hours"`},
		"another's event":    {"on: push", "on: pull_request_target", "on pull_request_target: strangers start it"},
		"all permissions":    {"permissions: {}\n", "", "write permissions: {} for the workflow"},
		"rights for all":     {"permissions: {}\n", "permissions:\n  contents: read\n", "write permissions: {} for the workflow"},
		"a job's default":    {"    permissions:\n      contents: read\n", "", "job job: name each of its permissions"},
		"no end":             {"    timeout-minutes: 5\n", "", "job job: set timeout-minutes"},
		"any image":          {"ubuntu-24.04", "ubuntu-latest", "not on ubuntu-latest"},
		"a tag":              {"@3d3c42e5aac5ba805825da76410c181273ba90b1", "@v7", "actions/checkout@v7: name the commit"},
		"no version":         {" # v7.0.1", "", "write the version behind it"},
		"kept credentials":   {"persist-credentials: false", "fetch-depth: 0", "set persist-credentials: false"},
		"an expression":      {`echo "$REF"`, `echo "${{ github.ref }}"`, "an expression in a script"},
		"a cache of others'": {"contents: read", "contents: write", "for setup-go set cache: false"},
		"two pins": {"      - run:", "      - uses: actions/checkout@ffffffffffffffffffffffffffffffffffffffff # v7.0.1\n" +
			"        with:\n          persist-credentials: false\n      - run:", "has another commit elsewhere"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(right, test.from) {
				t.Fatalf("the workflow does not hold %q", test.from)
			}
			file := filepath.Join(t.TempDir(), "w.yml")
			if err := os.WriteFile(file, []byte(strings.Replace(right, test.from, test.to, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			problems, err := check([]string{file}, &out)
			if err != nil {
				t.Fatal(err)
			}
			if (problems > 0) != (test.want != "") || !strings.Contains(out.String(), test.want) {
				t.Errorf("%d problems, want %q:\n%s", problems, test.want, out.String())
			}
		})
	}
}

func TestCheckOfNothing(t *testing.T) {
	t.Parallel()
	if _, err := check(nil, &bytes.Buffer{}); err == nil {
		t.Error("no workflows pass")
	}
}
