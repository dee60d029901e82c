package main

import (
	"bytes"
	"os"
	"os/exec"
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
		"a tag of an action": {"@3d3c42e5aac5ba805825da76410c181273ba90b1", "@v7", "actions/checkout@v7: name the commit"},
		"no version":         {" # v7.0.1", "", "write the version behind it"},
		"kept credentials":   {"persist-credentials: false", "fetch-depth: 0", "set persist-credentials: false"},
		"an expression":      {`echo "$REF"`, `echo "${{ github.ref }}"`, "an expression in a script"},
		"a cache of others'": {"contents: read", "contents: write", "for setup-go set cache: false"},
		"two pins": {"      - run:", "      - uses: actions/checkout@ffffffffffffffffffffffffffffffffffffffff # v7.0.1\n" +
			"        with:\n          persist-credentials: false\n      - run:", "has another commit elsewhere"},
		"a tag":     {"on: push", "on: {push: {tags: ['v*']}}", ""},
		"a release": {"    permissions:\n      contents: read", "    permissions:\n      contents: write", "a tag starts it, and it may write"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(right, test.from) {
				t.Fatalf("the workflow does not hold %q", test.from)
			}
			problems, out := checkText(t, strings.Replace(right, test.from, test.to, 1))
			if (problems > 0) != (test.want != "") || !strings.Contains(out, test.want) {
				t.Errorf("%d problems, want %q:\n%s", problems, test.want, out)
			}
		})
	}
}

func TestCheckOfNothing(t *testing.T) {
	t.Parallel()
	if _, err := check(nil, "", &bytes.Buffer{}); err == nil {
		t.Error("no workflows pass")
	}
}

const release = `on: {push: {tags: ['v*']}}
permissions: {}
jobs:
  job:
    runs-on: ubuntu-24.04
    timeout-minutes: 5
    permissions:
      contents: write
    steps:
      - uses: actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1
        with:
          persist-credentials: false
          fetch-depth: 0
      - run: git merge-base --is-ancestor HEAD origin/main
      - run: make release STEP=publish
`

// TestRelease: what a tag starts first makes sure that the tag is on main.
func TestRelease(t *testing.T) {
	t.Parallel()
	const step, next = "      - run: git merge-base --is-ancestor HEAD origin/main\n", "      - run: make release STEP=publish\n"
	for name, test := range map[string]struct {
		change *strings.Replacer
		ok     bool
	}{
		"nothing":            {strings.NewReplacer(), true},
		"read only":          {strings.NewReplacer(step, "", "contents: write", "contents: read"), true},
		"of a branch":        {strings.NewReplacer(step, "", "tags: ['v*']", "branches: [main]"), true},
		"no check":           {strings.NewReplacer(step, ""), false},
		"no check, all refs": {strings.NewReplacer(step, "", "{push: {tags: ['v*']}}", "push"), false},
		"too late":           {strings.NewReplacer(step+next, next+step), false},
		"without main":       {strings.NewReplacer("          fetch-depth: 0\n", ""), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			problems, out := checkText(t, test.change.Replace(release))
			want := "job job: a tag starts it, and it may write: after a checkout with fetch-depth: 0, its next step must be git merge-base"
			if problems > 0 == test.ok || !test.ok && !strings.Contains(out, want) {
				t.Errorf("%d problems:\n%s", problems, out)
			}
		})
	}
}

func checkText(t *testing.T, workflow string) (problems int, out string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "w.yml")
	if err := os.WriteFile(file, []byte(workflow), 0o600); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	problems, err := check([]string{file}, "", &text)
	if err != nil {
		t.Fatal(err)
	}
	return problems, text.String()
}

// TestShellcheck: without shellcheck a line says that scripts are not checked; in continuous integration that is an error.
func TestShellcheck(t *testing.T) {
	t.Parallel()
	const text = "shellcheck is not installed, which checks the scripts of the workflows (apt-get install shellcheck)"
	missing := func(string) (string, error) { return "", exec.ErrNotFound }
	found := func(name string) (string, error) { return "/bin/" + name, nil }
	for name, test := range map[string]struct {
		look           func(string) (string, error)
		ci             bool
		path, out, err string
	}{
		"found":                         {found, true, "/bin/shellcheck", "", ""},
		"missing":                       {missing, false, "", "actions: skipped: " + text + "\n", ""},
		"missing, in a build that must": {missing, true, "", "", text},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			path, err := findShellcheck(test.look, test.ci, &out)
			if path != test.path || out.String() != test.out || err == nil != (test.err == "") || err != nil && err.Error() != test.err {
				t.Errorf("%q, %q, %v; want %+v", path, out.String(), err, test)
			}
		})
	}
}
