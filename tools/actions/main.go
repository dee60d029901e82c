// Actions checks the workflows of GitHub Actions: with actionlint, which knows the syntax and the contexts, and with the
// rules below, which are about what a workflow lets others do. What it needs it reads from the files; it asks nobody.
//
//	actions [FILE...]     without files: all in .github/workflows
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/rhysd/actionlint"
)

func main() {
	files := os.Args[1:]
	if len(files) == 0 {
		files, _ = filepath.Glob(".github/workflows/*.y*ml") // the pattern is valid
	}
	shellcheck, err := findShellcheck(exec.LookPath, os.Getenv("CI") != "", os.Stdout)
	problems := 0
	if err == nil {
		problems, err = check(files, shellcheck, os.Stdout)
	}
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "actions:", err)
		os.Exit(2)
	case problems > 0:
		os.Exit(1)
	}
	fmt.Printf("actions: %d workflows pass actionlint and our rules\n", len(files))
}

// findShellcheck returns the program with which actionlint checks scripts; without it, actionlint leaves them out and does not say so. Then
// findShellcheck writes a line that says so; in continuous integration it returns an error.
func findShellcheck(look func(name string) (string, error), ci bool, out io.Writer) (path string, err error) {
	const text = "shellcheck is not installed, which checks the scripts of the workflows (apt-get install shellcheck)"
	path, err = look("shellcheck")
	switch {
	case err == nil:
		return path, nil
	case ci:
		return "", errors.New(text)
	}
	fmt.Fprintln(out, "actions: skipped:", text)
	return "", nil
}

// check prints the problems of the files and returns their number. Without shellcheck it leaves out their scripts.
func check(files []string, shellcheck string, out io.Writer) (problems int, err error) {
	if len(files) == 0 {
		return 0, errors.New("there is no workflow here: run it in the root of the repository")
	}
	linter, err := actionlint.NewLinter(out, &actionlint.LinterOptions{Shellcheck: shellcheck})
	if err != nil {
		return 0, err
	}
	found, err := linter.LintFiles(files, nil)
	if err != nil {
		return 0, err
	}
	problems = len(found)
	pins := map[string]string{}
	for _, file := range files {
		content, err := os.ReadFile(file) //nolint:gosec // G304: the caller says which
		if err != nil {
			return 0, err
		}
		workflow, _ := actionlint.Parse(content) // its errors are printed above
		if workflow == nil {
			continue
		}
		c := checker{lines: strings.Split(string(content), "\n"), pins: pins, report: func(pos *actionlint.Pos, format string, args ...any) {
			problems++
			fmt.Fprintf(out, "%s:%d:%d: %s\n", file, pos.Line, pos.Col, fmt.Sprintf(format, args...))
		}}
		c.workflow(workflow)
	}
	return problems, nil
}

// onMain fails for a commit that is not on main.
const onMain = "git merge-base --is-ancestor HEAD origin/main"

// checker checks one file.
type checker struct {
	lines  []string
	pins   map[string]string // of all files: the digest of each action
	report func(pos *actionlint.Pos, format string, args ...any)
}

func (c *checker) workflow(w *actionlint.Workflow) {
	start := &actionlint.Pos{Line: 1, Col: 1}
	for _, event := range w.On {
		switch name := event.EventName(); name {
		case "pull_request_target", "workflow_run", "issue_comment":
			c.report(start, "on %s: strangers start it, and it has the rights of this repository", name)
		}
	}
	if w.Permissions == nil || w.Permissions.All != nil || len(w.Permissions.Scopes) > 0 {
		c.report(start, "write permissions: {} for the workflow, and what it needs for each job")
	}
	for _, job := range w.Jobs {
		c.job(job)
		if startsByTag(w) && writes(job.Permissions) {
			c.onMain(job)
		}
	}
}

// startsByTag reports whether a pushed tag starts the workflow.
func startsByTag(w *actionlint.Workflow) bool {
	return slices.ContainsFunc(w.On, func(event actionlint.Event) bool {
		hook, ok := event.(*actionlint.WebhookEvent)
		return ok && hook.EventName() == "push" && (hook.Tags != nil || hook.Branches == nil)
	})
}

// onMain: whoever may push a tag could otherwise publish a commit that nobody has reviewed.
func (c *checker) onMain(j *actionlint.Job) {
	fetched := false
	for _, step := range j.Steps {
		switch exec := step.Exec.(type) {
		case *actionlint.ExecAction:
			name, _, _ := strings.Cut(exec.Uses.Value, "@")
			fetched = fetched || name == "actions/checkout" && input(exec, "fetch-depth") == "0"
			if name == "actions/checkout" {
				continue
			}
		case *actionlint.ExecRun:
			if fetched && strings.Contains(exec.Run.Value, onMain) {
				return
			}
		}
		break // whatever else it does comes later
	}
	c.report(j.Pos, "job %s: a tag starts it, and it may write: after a checkout with fetch-depth: 0, its next step must be %s", j.ID.Value, onMain)
}

func (c *checker) job(j *actionlint.Job) {
	if j.Permissions == nil || j.Permissions.All != nil {
		c.report(j.Pos, "job %s: name each of its permissions", j.ID.Value)
	}
	if j.TimeoutMinutes == nil && j.WorkflowCall == nil {
		c.report(j.Pos, "job %s: set timeout-minutes; the default is six hours", j.ID.Value)
	}
	if j.RunsOn != nil {
		for _, label := range j.RunsOn.Labels {
			if strings.HasSuffix(label.Value, "-latest") || label.Value == "self-hosted" {
				c.report(label.Pos, "job %s: run on a version of an image of GitHub, not on %s", j.ID.Value, label.Value)
			}
		}
	}
	if j.WorkflowCall != nil {
		c.pin(j.WorkflowCall.Uses)
	}
	for _, step := range j.Steps {
		c.step(step, writes(j.Permissions))
	}
}

// writes reports whether a job may change something.
func writes(p *actionlint.Permissions) bool {
	if p == nil || p.All != nil {
		return true
	}
	for name, scope := range p.Scopes {
		if scope.Value.Value == "write" && name != "security-events" {
			return true
		}
	}
	return false
}

func (c *checker) step(s *actionlint.Step, mayWrite bool) {
	switch exec := s.Exec.(type) {
	case *actionlint.ExecRun:
		if strings.Contains(exec.Run.Value, "${{") {
			c.report(exec.Run.Pos, "an expression in a script is code of whoever sets its value; pass it by env")
		}
	case *actionlint.ExecAction:
		c.pin(exec.Uses)
		name, _, _ := strings.Cut(exec.Uses.Value, "@")
		switch {
		case name == "actions/checkout" && input(exec, "persist-credentials") != "false":
			c.report(exec.Uses.Pos, "set persist-credentials: false; later steps could read the token")
		case name == "actions/cache" && mayWrite, name == "actions/setup-go" && mayWrite && input(exec, "cache") != "false":
			c.report(exec.Uses.Pos, "a job that may write takes nothing from a cache that other workflows fill; for setup-go set cache: false")
		}
	}
}

func input(a *actionlint.ExecAction, name string) string {
	if in := a.Inputs[name]; in != nil && in.Value != nil {
		return in.Value.Value
	}
	return ""
}

var (
	pinned  = regexp.MustCompile(`^([^@]+)@([0-9a-f]{40})$`)
	version = regexp.MustCompile(`# v[0-9]+\.[0-9]+\.[0-9]+$`)
)

// pin checks the reference to an action or to a workflow. Who updates it, and who reads it, needs its version too.
func (c *checker) pin(uses *actionlint.String) {
	match := pinned.FindStringSubmatch(uses.Value)
	switch {
	case strings.HasPrefix(uses.Value, "./"):
	case match == nil:
		c.report(uses.Pos, "%s: name the commit by its 40 digits; a tag can move", uses.Value)
	case !version.MatchString(strings.TrimSpace(c.lines[uses.Pos.Line-1])):
		c.report(uses.Pos, "%s: write the version behind it, # v1.2.3", uses.Value)
	case c.pins[match[1]] == "":
		c.pins[match[1]] = match[2]
	case c.pins[match[1]] != match[2]:
		c.report(uses.Pos, "%s has another commit elsewhere: %s", uses.Value, c.pins[match[1]])
	}
}
