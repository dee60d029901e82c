package policy_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
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
	f, err := policy.Open(
		func() ([]byte, error) { return []byte(text), readError },
		func(err error) {
			if err == nil {
				err = errors.New("reloaded")
			}
			reports = append(reports, err.Error())
		})
	if err != nil {
		t.Fatal(err)
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
		{"broken", "rules: [{", nil, true, "line 1: did not find expected node content", 1},
		{"still broken", "rules: [{", nil, true, "", 1},
		{"broken otherwise", "rulez: []", nil, true, "line 1: field rulez not found", 2},
		{"an identity word", `rules: [{namespaces: ["*"], identities: [clusters]}]`, nil, true,
			`rules[0].identities[0]: "clusters" is none of workload, servicePrincipal, managed and cluster`, 3},
		{"empty", "", nil, true, "is empty; a policy that refuses everything is written rules: []", 4},
		{"gone", "", os.ErrNotExist, true, "file does not exist", 5},
		{"still gone", "", os.ErrNotExist, true, "", 5},
		{"back, closed", closed, nil, false, "reloaded", 5},
		{"broken, and the last good rules are the closed ones", "rules: [{", nil, false, "line 1: did not find expected node content", 6},
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
		if len(reports) > 1 || len(reports) == 1 && reports[0] != step.report || len(reports) == 0 && step.report != "" {
			t.Errorf("%s: reported %q, want %q", step.name, reports, step.report)
		}
	}
}

// Whoever only reads the metrics finds out, too.
func TestFailuresLooksAtTheFile(t *testing.T) {
	t.Parallel()
	text := open
	f, err := policy.Open(func() ([]byte, error) { return []byte(text), nil }, func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	text = "rules: [{"
	if got := f.Failures(); got != 1 {
		t.Errorf("%d failures, want 1", got)
	}
}

func TestOpenNeedsAGoodFile(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text string
		err  error
		want string
	}{
		{"", os.ErrPermission, "permission denied"},
		{"rules: 7", nil, "line 1: cannot unmarshal !!int `7`"},
	} {
		_, err := policy.Open(func() ([]byte, error) { return []byte(tc.text), tc.err }, nil)
		if err == nil || err.Error() != tc.want {
			t.Errorf("Open = %v, want %s", err, tc.want)
		}
	}
}

// TestReloadUnderLoad swaps the file as a ConfigMap is swapped, broken contents between, while requests run. Each swap
// has a number; a request that began after swap n and ended before swap n+1 must be answered by the rules of n.
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
	f, err := policy.Open(func() ([]byte, error) { return os.ReadFile(path) }, func(error) {})
	if err != nil {
		t.Fatal(err)
	}

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
			put(number, "rules: [{") // what held still holds
		case 1:
			put(number, closed)
			phase = 2
		case 2:
			put(number, open)
			phase = 1
		}
		state.Store(int64(number)*4 + phase)
		for seen := judged.Load(); judged.Load() < seen+4 && !t.Failed(); { // let the askers ask
		}
	}
	close(stop)
	asking.Wait()
	if got := f.Failures(); got != 50 {
		t.Errorf("%d failures counted, want the 50 broken files", got)
	}
}
