package policy_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/policy"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const (
	open   = `rules: [{namespaces: ["*"], identities: [cluster]}]`
	closed = `rules: [{namespaces: ["*"], identities: [workload]}]`
)

// TestReload follows a file through what happens to it. After each step the very next request is answered by it.
func TestReload(t *testing.T) {
	t.Parallel()
	text, readError := open, error(nil)
	var reports []string
	f := policy.Open("/rules.yaml", func() ([]byte, error) { return []byte(text), readError }, reportTo(&reports))
	if f.Problem() != nil || len(reports) != 0 {
		t.Errorf("at the start: %v, reported %q, want nothing", f.Problem(), reports)
	}
	for _, step := range []struct {
		name     string
		text     string
		err      error
		allowed  bool
		report   string // empty: none
		failures int
	}{
		{"as it was", open, nil, true, "", 0},
		{"closed", closed, nil, false, "reloaded", 0},
		{"open again", open, nil, true, "reloaded", 0},
		{"broken", "rules: [{", nil, true, "held: line 1: did not find expected node content", 1},
		{"still broken", "rules: [{", nil, true, "", 1},
		{"broken otherwise", "rulez: []", nil, true, "held: line 1: field rulez not found", 2},
		{"an unknown identity", `rules: [{namespaces: ["*"], identities: [clusters]}]`, nil, true,
			`held: rules[0].identities[0]: "clusters" is none of workload, servicePrincipal, managed and cluster`, 3},
		{"empty", "", nil, true, "held: is empty; a policy that refuses everything is written rules: []", 4},
		{"gone", "", os.ErrNotExist, true, "held: file does not exist", 5},
		{"still gone", "", os.ErrNotExist, true, "", 5},
		{"back, closed", closed, nil, false, "reloaded", 5},
		{"broken, and the last good rules are the closed ones", "rules: [{", nil, false, "held: line 1: did not find expected node content", 6},
		{"repaired to what it was", closed, nil, false, "reloaded", 6},
	} {
		text, readError, reports = step.text, step.err, nil
		_, err := f.Allow(ask(volume.Cluster))
		if (err == nil) != step.allowed {
			t.Errorf("%s: Allow = %v, want allowed: %t", step.name, err, step.allowed)
		}
		if got := f.Failures(); got != step.failures {
			t.Errorf("%s: %d failures, want %d", step.name, got, step.failures)
		}
		if problem := f.Problem(); problem != nil && !strings.HasSuffix(problem.Error(), "; the last good rules hold") {
			t.Errorf("%s: the problem is %v", step.name, problem)
		}
		if len(reports) > 1 || len(reports) == 1 && reports[0] != step.report || len(reports) == 0 && step.report != "" {
			t.Errorf("%s: reported %q, want %q", step.name, reports, step.report)
		}
	}
}

// Failures reads the file too.
func TestFailuresLooksAtTheFile(t *testing.T) {
	t.Parallel()
	text := open
	f := policy.Open("/rules.yaml", func() ([]byte, error) { return []byte(text), nil }, func(error, bool) {})
	text = "rules: [{"
	if got := f.Failures(); got != 1 {
		t.Errorf("%d failures, want 1", got)
	}
}

// TestNoGoodRulesYet begins with a file that cannot be used: everything is refused, with the reason of the moment, until it
// can.
func TestNoGoodRulesYet(t *testing.T) {
	t.Parallel()
	text, readError := "", os.ErrNotExist
	var reports []string
	f := policy.Open("/rules.yaml", func() ([]byte, error) { return []byte(text), readError }, reportTo(&reports))
	if len(reports) != 1 || reports[0] != "file does not exist" || f.Failures() != 1 {
		t.Errorf("at the start: reported %q, %d failures", reports, f.Failures())
	}
	for _, step := range []struct {
		name, text string
		err        error
		problem    string // empty: the rules are in force
		failures   int
	}{
		{"still none", "", os.ErrNotExist, "file does not exist", 1},
		{"one that cannot be read", "", os.ErrPermission, "permission denied", 2},
		{"a broken one", "rules: 7", nil, "line 1: cannot unmarshal !!int `7`", 3},
		{"a denial that cannot be decided", `rules: [{effect: deny, namespaces: ["*"], identities: [managed], clientIDs: [a]}]`, nil,
			"rules[0].clientIDs: a rule that denies managed or cluster names no ids; leave clientIDs out to deny all of them, " +
				"or write rules that allow the ids which may be used: what no rule allows is refused", 4},
		{"mended", open, nil, "", 4},
		{"broken again", "rules: 7", nil, "held", 5},
	} {
		text, readError = step.text, step.err
		_, err := f.Allow(ask(volume.Cluster))
		switch want := "the policy file /rules.yaml cannot be used: " + step.problem + "; everything is refused until it can"; {
		case step.problem == "" || step.problem == "held":
			if err != nil {
				t.Errorf("%s: %v, want it allowed", step.name, err)
			}
		case err == nil || err.Error() != want || !errors.Is(err, volume.ErrDenied):
			t.Errorf("%s: %v, want %s", step.name, err, want)
		case f.Problem() == nil || f.Problem().Error() != want:
			t.Errorf("%s: the problem is %v, want %s", step.name, f.Problem(), want)
		}
		if got := f.Failures(); got != step.failures {
			t.Errorf("%s: %d failures, want %d", step.name, got, step.failures)
		}
	}
	if problem := f.Problem(); problem == nil || problem.Error() != "the policy file /rules.yaml cannot be used: line 1: cannot unmarshal !!int `7`; the last good rules hold" {
		t.Errorf("the problem at the end is %v", problem)
	}
}

// reportTo records what a File reports.
func reportTo(reports *[]string) func(error, bool) {
	return func(problem error, held bool) {
		text := "reloaded"
		if problem != nil {
			text = problem.Error()
		}
		if held {
			text = "held: " + text
		}
		*reports = append(*reports, text)
	}
}

// TestReloadUnderLoad swaps the file as a ConfigMap is swapped while requests run. Some of the contents are invalid.
// Each swap has a number; a request that began after swap n and ended before swap n+1 must be answered by the rules of
// n.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put := func(number int, text string) {
		folder := filepath.Join(dir, "..data-"+strconv.Itoa(number))
		if err := os.Mkdir(folder, 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, "policy.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Base(folder), filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
		if number > 0 {
			if err := os.RemoveAll(filepath.Join(dir, "..data-"+strconv.Itoa(number-1))); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(0, open)
	path := filepath.Join(dir, "policy.yaml")
	if err := os.Symlink("..data/policy.yaml", path); err != nil {
		t.Fatal(err)
	}
	f := policy.Open(path, func() ([]byte, error) { return os.ReadFile(path) }, func(error, bool) {})

	// The state is 4*number + phase: 0 while a swap is under way, then 1 for open and 2 for closed.
	var state atomic.Int64
	state.Store(1)
	stop := make(chan struct{})
	var asking sync.WaitGroup
	var judged atomic.Int64
	for range 4 {
		asking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				before := state.Load()
				_, err := f.Allow(ask(volume.Cluster))
				allowed := err == nil
				if before%4 == 0 || state.Load() != before {
					continue // it raced with a swap: either answer is right
				}
				judged.Add(1)
				if allowed != (before%4 == 1) {
					t.Errorf("after swap %d: allowed %t", before/4, allowed)
					return
				}
			}
		})
	}
	phase := int64(1)
	for number := 1; number <= 150; number++ {
		state.Store(int64(number) * 4)
		switch number % 3 {
		case 0:
			put(number, "rules: [{") // the last good rules stay in force
		case 1:
			put(number, closed)
			phase = 2
		case 2:
			put(number, open)
			phase = 1
		}
		state.Store(int64(number)*4 + phase)
		for seen := judged.Load(); judged.Load() < seen+4 && !t.Failed(); { // wait until requests were checked against these rules
		}
	}
	close(stop)
	asking.Wait()
	if got := f.Failures(); got != 50 {
		t.Errorf("%d failures counted, want the 50 broken files", got)
	}
}
