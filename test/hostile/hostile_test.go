// Package hostile_test attacks the daemon: as the author of a pod with attributes, as the owner of a vault with its content, as a process
// on the node at the socket, and as any pod at the port of the metrics. It runs the daemon that users get, with its socket, real mounts
// and a Key Vault behind TLS.
//
// After each attack: the answer arrives soon, with the right code and text and without secrets. The daemon runs, answers a Probe and
// publishes a good volume. It has no more memory, descriptors, goroutines and mounts than before.
package hostile_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
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
	// mostRSS is the allowed memory of the daemon at any time, far below the 512 MiB of the chart.
	mostRSS = 300 << 20
	// marker is in all values that must not appear in answers and logs.
	marker = "planted-4711"
)

// fixture is a node under attack.
type fixture struct {
	*node.Node
	before node.Footprint

	mu     sync.Mutex
	texts  strings.Builder // of all answers
	inputs int
	peak   int // of the daemon's memory
}

// newFixture starts a node with a good secret in its vault, and publishes a good volume once.
func newFixture(t *testing.T, flags ...string) *fixture {
	t.Helper()
	s := &fixture{Node: node.New(t, node.Options{Flags: flags, Provider: true})}
	s.Vault.SetSecret("good", marker, devcloud.SecretOptions{})
	s.checkAlive(t)
	s.before = s.footprint(t)
	return s
}

// checkAlive checks that the daemon still serves others.
func (s *fixture) checkAlive(t *testing.T) {
	t.Helper()
	ctx := suite.Context(t)
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

func (s *fixture) footprint(t *testing.T) node.Footprint {
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
func (s *fixture) cpu(t *testing.T) float64 {
	t.Helper()
	seconds, err := s.Metric(t.Context(), "process_cpu_seconds_total")
	if err != nil {
		t.Fatal(err)
	}
	return seconds
}

// attack publishes a volume and checks the answer. A text that ends with a star is compared up to the star. With codes.OK the volume
// is unpublished afterwards.
func (s *fixture) attack(t *testing.T, v kubelet.Volume, code codes.Code, text string) {
	t.Helper()
	ctx := suite.Context(t)
	err := s.Publish(ctx, v)
	s.check(t, err, code, text)
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

// check compares an answer, and searches it for content that no answer may have.
func (s *fixture) check(t *testing.T, err error, code codes.Code, text string) {
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
	if !utf8.ValidString(got.Message()) || strings.ContainsFunc(got.Message(), unicode.IsControl) || len(got.Message()) > 8<<10 {
		t.Errorf("%d bytes that are not one line: %q", len(got.Message()), got.Message())
	}
}

// survived checks that the daemon works after an attack, and holds no more than before.
func (s *fixture) survived(t *testing.T) {
	t.Helper()
	s.checkAlive(t)
	const spare = 12 // for idle connections, and what Go keeps for a while
	suite.Eventually(t, "the daemon holds as much as before", func() bool {
		now := s.footprint(t)
		return now.Descriptors <= s.before.Descriptors+spare && now.Goroutines <= s.before.Goroutines+3*spare && now.Mounts == s.before.Mounts
	})
	for where, text := range map[string]string{"an answer": s.texts.String(), "its log": s.Output()} {
		if i := strings.Index(text, marker); i >= 0 {
			t.Errorf("%s has a secret: %q", where, text[max(0, i-200):i+len(marker)])
		}
		if strings.Contains(text, "eyJ") {
			t.Errorf("%s has a token", where)
		}
	}
	if n := strings.Count(s.Output(), `"panic"`); n > 0 {
		t.Errorf("the daemon recovered from %d panics", n)
	}
}

// verdict logs the result of one part.
func (s *fixture) verdict(t *testing.T, what string) {
	t.Helper()
	s.survived(t)
	if !t.Failed() {
		suite.Verdict(t, "hostile input: %s: %d inputs, each answered in time; the daemon lived, at most %d MiB, nothing left, no secret in answers and logs",
			what, s.inputs, s.peak>>20)
	}
}
