package policy

import (
	"bytes"
	"sync"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// File is a policy that follows its file. It is safe for concurrent use.
//
// The file is read for each request, which takes some ten microseconds where a fetch takes milliseconds: so a change
// counts from the next request on, however the file was replaced (a ConfigMap is, by a symlink), and there is no
// watch that could miss an event, no timer and no time stamp to trust. A file that cannot be read or used is reported
// once and leaves the last good rules in force.
type File struct {
	read     func() ([]byte, error)
	reloaded func(error)

	mu       sync.Mutex
	policy   *Policy
	text     []byte // that policy was made of, or that was refused last
	problem  string // of the last refusal; empty while policy is what the file says
	failures int
}

// Open reads a policy for the first time; its error is that of read or of [Parse]. Afterwards reloaded is called with
// nil when the file has changed and its rules are in force, and with the reason when it cannot be used.
func Open(read func() ([]byte, error), reloaded func(error)) (*File, error) {
	text, err := read()
	if err != nil {
		return nil, err
	}
	policy, err := Parse(text)
	if err != nil {
		return nil, err
	}
	return &File{read: read, reloaded: reloaded, policy: policy, text: text}, nil
}

// Allow is that of the rules which the file holds now.
func (f *File) Allow(r volume.Request) (volume.Permit, error) { return f.current().Allow(r) }

// Failures counts the changes of the file that could not be used. It looks at the file, too, so that a node on which no
// pod asks reports a broken file to whoever reads its metrics.
func (f *File) Failures() int {
	f.current()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failures
}

// current gives the rules in force. It reads under the lock: else a reader that was overtaken could put old rules back.
func (f *File) current() *Policy {
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
		return f.policy
	case f.text != nil && bytes.Equal(text, f.text):
		return f.policy
	}
	f.text = text
	policy, err := Parse(text)
	if err != nil {
		f.problem = "" // another text is another failure, even with the same words
		f.refuse(err)
		return f.policy
	}
	f.policy, f.problem = policy, ""
	f.reloaded(nil)
	return f.policy
}

// refuse counts and reports a problem when it is new.
func (f *File) refuse(err error) {
	if err.Error() == f.problem {
		return
	}
	f.problem = err.Error()
	f.failures++
	f.reloaded(err)
}
