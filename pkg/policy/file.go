package policy

import (
	"bytes"
	"fmt"
	"sync"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// File is a policy that follows its file. It is safe for concurrent use.
//
// The file is read for each request, which takes some ten microseconds. So a change is in force for the next request,
// however the file was replaced, without a watch that could miss it. A file that cannot be used is reported once, and the
// last good rules stay in force. Before the first good rules everything is refused.
type File struct {
	name   string
	read   func() ([]byte, error)
	report func(problem error, held bool)

	mu       sync.Mutex
	policy   *Policy // nil until the file could be used for the first time
	text     []byte  // what was read last; nil if it could not be read
	problem  error   // nil while policy is what the file says
	failures int
}

// Open reads a policy for the first time. report gets the problem of a file that cannot be used, now or later; held means
// that the last good rules stay in force. It gets nil when changed rules come into force.
func Open(name string, read func() ([]byte, error), report func(problem error, held bool)) *File {
	f := &File{name: name, read: read, report: report}
	_, _ = f.current()
	return f
}

// Allow is [Policy.Allow] of the rules in force.
func (f *File) Allow(r volume.Request) (volume.Permit, error) {
	rules, problem := f.current()
	if rules == nil {
		return nil, volume.Errorf(volume.ErrDenied, "%w", f.explain(problem, false))
	}
	return rules.Allow(r)
}

// RefreshAfter is [Policy.RefreshAfter] of the rules in force.
func (f *File) RefreshAfter(r volume.Request, now time.Time) time.Time {
	if rules, _ := f.current(); rules != nil {
		return rules.RefreshAfter(r, now)
	}
	return time.Time{}
}

// LatestRefreshAfter is [Policy.LatestRefreshAfter] of the rules in force.
func (f *File) LatestRefreshAfter() time.Time {
	if rules, _ := f.current(); rules != nil {
		return rules.LatestRefreshAfter()
	}
	return time.Time{}
}

// Failures returns how often the file could not be used. It reads the file, so that the metrics show a broken one before a
// pod asks.
func (f *File) Failures() int {
	_, _ = f.current()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failures
}

// Problem returns what is wrong with the file now, and which rules are in force; nil while its own are.
func (f *File) Problem() error {
	rules, problem := f.current()
	if problem == nil {
		return nil
	}
	return f.explain(problem, rules != nil)
}

func (f *File) explain(problem error, held bool) error {
	meanwhile := "everything is refused until it can"
	if held {
		meanwhile = "the last good rules hold"
	}
	return fmt.Errorf("the policy file %s cannot be used: %w; %s", f.name, problem, meanwhile)
}

// current returns the rules in force and the problem of the file. It reads under the lock, so that a slow reader does not
// put old rules back.
func (f *File) current() (*Policy, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	text, err := f.read()
	if err != nil {
		text, err = f.read() // a reader that has followed the old link of a ConfigMap finds its folder removed
	}
	if err == nil && f.text != nil && bytes.Equal(text, f.text) {
		return f.policy, f.problem
	}
	var policy *Policy
	if f.text = nil; err == nil {
		f.text = text
		policy, err = Parse(text)
	}
	switch {
	case err == nil:
		first := f.policy == nil && f.problem == nil
		f.policy, f.problem = policy, nil
		if !first {
			f.report(nil, false)
		}
	case f.text != nil || f.problem == nil || f.problem.Error() != err.Error(): // not the same error of a read again
		f.problem = err
		f.failures++
		f.report(err, f.policy != nil)
	}
	return f.policy, f.problem
}
