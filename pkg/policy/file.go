package policy

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// File is a policy that follows its file. It is safe for concurrent use.
//
// The file is read for each request, which takes some ten microseconds where a fetch takes milliseconds: so a change
// counts from the next request on, however the file was replaced (a ConfigMap is, by a symlink), and there is no
// watch that could miss an event, no timer and no time stamp to trust. A file that cannot be read or used is reported
// once and leaves the last good rules in force. Until there have been any, everything is refused.
type File struct {
	name     string // for whoever is refused
	read     func() ([]byte, error)
	reloaded func(problem error, held bool)

	mu       sync.Mutex
	policy   *Policy // nil until the file could be used for the first time
	text     []byte  // that policy was made of, or that was refused last
	problem  string  // of the last refusal; empty while policy is what the file says
	failures int
}

// Open reads a policy for the first time. reloaded is called with the reason whenever the file turns out to be one that
// cannot be used, at once or later; held says that the last good rules hold then. It is called with nil when the file has
// changed and its rules are in force.
func Open(name string, read func() ([]byte, error), reloaded func(problem error, held bool)) *File {
	f := &File{name: name, read: read, reloaded: func(problem error, held bool) {
		if problem != nil {
			reloaded(problem, held)
		}
	}}
	f.current()
	f.reloaded = reloaded
	return f
}

// Allow is that of the rules which the file holds now.
func (f *File) Allow(r volume.Request) (volume.Permit, error) {
	rules, problem := f.current()
	if rules == nil {
		return nil, volume.Errorf(volume.ErrDenied, "%s", f.explain(problem, false))
	}
	return rules.Allow(r)
}

// Failures counts how often the file turned out to be one that cannot be used. It looks at the file, too, so that a node
// on which no pod asks reports a broken file to whoever reads its metrics.
func (f *File) Failures() int {
	f.current()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failures
}

// Problem says what is wrong with the file now, and what holds meanwhile; nil while its rules are in force.
func (f *File) Problem() error {
	rules, problem := f.current()
	if problem == "" {
		return nil
	}
	return errors.New(f.explain(problem, rules != nil))
}

func (f *File) explain(problem string, held bool) string {
	meanwhile := "everything is refused until it can"
	if held {
		meanwhile = "the last good rules hold"
	}
	return fmt.Sprintf("the policy file %s cannot be used: %s; %s", f.name, problem, meanwhile)
}

// current gives the rules in force, and what is wrong with the file. It reads under the lock: else a reader that was
// overtaken could put old rules back.
func (f *File) current() (rules *Policy, problem string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	text, err := f.read()
	if err != nil {
		text, err = f.read() // the folder of a ConfigMap goes away under whoever has just followed the old link
	}
	switch {
	case err != nil:
		f.text = nil // whatever can be read next is news
		f.refuse(err)
		return f.policy, f.problem
	case f.text != nil && bytes.Equal(text, f.text):
		return f.policy, f.problem
	}
	f.text = text
	policy, err := Parse(text)
	if err != nil {
		f.problem = "" // another text is another failure, even with the same words
		f.refuse(err)
		return f.policy, f.problem
	}
	f.policy, f.problem = policy, ""
	f.reloaded(nil, false)
	return f.policy, ""
}

// refuse counts and reports a problem when it is new.
func (f *File) refuse(err error) {
	if err.Error() == f.problem {
		return
	}
	f.problem = err.Error()
	f.failures++
	f.reloaded(err, f.policy != nil)
}
