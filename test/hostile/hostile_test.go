// Package hostile_test gives the daemon what somebody would who means it ill: a pod's author in attributes, the owner of a
// vault in what it holds, a process on the node at the socket, any pod at the port of the metrics. It is the daemon that
// users get, at its real socket, with real mounts, and a Key Vault behind TLS.
//
// What holds in each case: the answer comes soon, with the code and the text that it should have and nothing secret in it;
// the daemon lives, still answers a Probe and publishes a good volume; and it holds no more memory, descriptors,
// goroutines and mounts than before.
package hostile_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

func TestMain(m *testing.M) { os.Exit(mountns.Main(m)) }

const (
	// patience is how long one hostile thing may keep the daemon busy: a few milliseconds of CPU time, on a machine that may be busy
	// with much else.
	patience = time.Minute
	// mostRSS is what the daemon may hold at any time, far below the 512 MiB that the chart gives it.
	mostRSS = 300 << 20
	// marker stands in everything that no text may repeat.
	marker = "planted-4711"
)

// site is a node under attack.
type site struct {
	*node.Node
	before node.Footprint

	mu     sync.Mutex
	texts  strings.Builder // of all answers
	inputs int
	peak   int // of the daemon's memory
}

// newSite gives a node whose vault holds a good secret, and which a good volume has already used.
func newSite(t *testing.T, flags ...string) *site {
	t.Helper()
	s := &site{Node: node.New(t, node.Options{Flags: flags})}
	s.Vault.SetSecret("good", marker, devcloud.SecretOptions{})
	s.lives(t)
	s.before = s.footprint(t)
	return s
}

// lives makes sure that the daemon does for others what it is there for, soon.
func (s *site) lives(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := s.Identity.Probe(ctx, &csi.ProbeRequest{}); err != nil {
		t.Fatalf("the daemon does not answer a Probe: %v", err)
	}
	good := node.Volume("good", "objects", "- secret: good")
	if err := s.Publish(ctx, good); err != nil {
		t.Fatalf("a good volume: %v", err)
	}
	got, err := os.ReadFile(filepath.Join(s.Target(good), "good"))
	if err != nil || string(got) != marker {
		t.Fatalf("the good volume holds %q, %v", got, err)
	}
	if err := s.Unpublish(ctx, good); err != nil {
		t.Fatalf("a good volume: %v", err)
	}
}

func (s *site) footprint(t *testing.T) node.Footprint {
	t.Helper()
	f, err := s.Footprint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peak = max(s.peak, f.RSS)
	if f.RSS > mostRSS {
		t.Errorf("the daemon holds %d MiB", f.RSS>>20)
	}
	return f
}

// cpu is the CPU time of the daemon in seconds.
func (s *site) cpu(t *testing.T) float64 {
	t.Helper()
	seconds, err := s.Metric(t.Context(), "process_cpu_seconds_total")
	if err != nil {
		t.Fatal(err)
	}
	return seconds
}

// attack publishes a volume and wants this answer; the text ends with a star where only its beginning is ours. codes.OK wants a
// volume, which is then taken away.
func (s *site) attack(t *testing.T, v kubelet.Volume, code codes.Code, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	began := time.Now()
	err := s.Publish(ctx, v)
	s.judge(t, err, time.Since(began), code, text)
	if err == nil {
		if err := s.Unpublish(ctx, v); err != nil {
			t.Error(err)
		}
		return
	}
	if _, err := os.Lstat(s.Target(v)); err == nil {
		t.Error("a refused publish left its target behind")
	}
}

// judge compares an answer, and looks for what no answer may hold.
func (s *site) judge(t *testing.T, err error, took time.Duration, code codes.Code, text string) {
	t.Helper()
	got := status.Convert(err)
	s.mu.Lock()
	s.inputs++
	s.texts.WriteString(got.Message() + "\n")
	s.mu.Unlock()
	matches := got.Message() == text
	if beginning, open := strings.CutSuffix(text, "*"); open {
		matches = strings.HasPrefix(got.Message(), beginning)
	}
	if got.Code() != code || !matches {
		t.Errorf("answered\n%s: %s, want\n%s: %s", got.Code(), got.Message(), code, text)
	}
	if took > patience {
		t.Errorf("took %v", took)
	}
	if !utf8.ValidString(got.Message()) || strings.ContainsFunc(got.Message(), unicode.IsControl) || len(got.Message()) > 8<<10 {
		t.Errorf("%d bytes that are not one line: %q", len(got.Message()), got.Message())
	}
}

// survived makes sure that nothing is left of an attack: the daemon lives and holds what it held before.
func (s *site) survived(t *testing.T) {
	t.Helper()
	s.lives(t)
	const spare = 12 // idle connections to the cloud, and what Go keeps for a while
	suite.Eventually(t, "the daemon holds as much as before", func() bool {
		now := s.footprint(t)
		return now.Descriptors <= s.before.Descriptors+spare && now.Goroutines <= s.before.Goroutines+3*spare && now.Mounts == s.before.Mounts
	})
	for where, text := range map[string]string{"an answer": s.texts.String(), "its log": s.Output()} {
		if i := strings.Index(text, marker); i >= 0 {
			t.Errorf("%s gives a secret away: %q", where, text[max(0, i-200):i+len(marker)])
		}
		if strings.Contains(text, "eyJ") {
			t.Errorf("%s gives a token away", where)
		}
	}
	if n := strings.Count(s.Output(), `"panic"`); n > 0 {
		t.Errorf("the daemon recovered from %d panics", n)
	}
}

// verdict is the suite's word on one part.
func (s *site) verdict(t *testing.T, what string) {
	t.Helper()
	s.survived(t)
	if !t.Failed() {
		suite.Verdict(t, "hostile input: %s: %d inputs, each answered in time; the daemon lived, at most %d MiB, nothing left, nothing told",
			what, s.inputs, s.peak>>20)
	}
}
