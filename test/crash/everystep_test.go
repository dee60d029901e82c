package crash_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// operation is a call that is interrupted at each of its steps.
type operation struct {
	name    string
	prepare func(t *testing.T, n *node.Node, p *pod) // makes the state before the call
	call    func(ctx context.Context, n *node.Node, p *pod) error
	keeps   bool // the target has a set before, and must have one afterwards
}

func callPublish(ctx context.Context, n *node.Node, p *pod) error { return n.Publish(ctx, p.Volume) }

// callUnpublish does not remove the kubelet's folders.
func callUnpublish(ctx context.Context, n *node.Node, p *pod) error {
	_, err := n.Driver.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: p.ID(), TargetPath: n.Target(p.Volume)})
	return err
}

func operations() []operation {
	published := func(t *testing.T, n *node.Node, p *pod) {
		t.Helper()
		publish(t, n, p)
	}
	return []operation{
		{"first publish", func(*testing.T, *node.Node, *pod) {}, callPublish, false},
		{"swap", func(t *testing.T, n *node.Node, p *pod) {
			t.Helper()
			publish(t, n, p)
			n.Age(t, p.Volume, due)
			p.change(n)
		}, callPublish, true},
		{"refresh", func(t *testing.T, n *node.Node, p *pod) {
			t.Helper()
			publish(t, n, p)
			n.Age(t, p.Volume, due)
		}, callPublish, true},
		{"unpublish", published, callUnpublish, false},
	}
}

// The daemon is killed before every system call that changes mounts or files. The next daemon gets the same call again, or an
// unpublish.
func TestKilledBeforeEverySystemCall(t *testing.T) {
	t.Parallel()
	total := 0
	before := newBaseline(t)
	n := node.New(t, node.Options{Env: []string{"TMPDIR=" + before.temporary}, Flags: []string{"--http-address=", "--mount-max-age=0"}})
	p := newPod(n, "pod", 2, tracedSize)
	// Every other volume is unpublished at once, which must work from any state too.
	forms := []func(step int) (giveUp bool){func(step int) bool { return step%2 == 0 }}
	if suite.Long() {
		forms = append(forms, func(step int) bool { return step%2 != 0 })
	}
	for _, op := range operations() {
		for _, giveUp := range forms {
			steps, kills := killAtEach(t, n, p, op, giveUp)
			total += kills
			t.Logf("%s: %d kills before one of %d calls: %s", op.name, kills, len(steps), counted(steps))
		}
	}
	quit(t, n)
	before.nothingLeft(t, n)
	logVerdict(t, "kill -9: %d kills, each before another system call by which volumes are made, changed and removed; every volume whole or absent, and repaired by the next call", total)
}

// killAtEach returns the system calls of the operation, and how often it killed the daemon.
func killAtEach(t *testing.T, n *node.Node, p *pod, op operation, giveUp func(step int) bool) (steps []string, kills int) {
	t.Helper()
	_, _ = n.StopDaemon(unix.SIGKILL)
	tracer := restartTraced(t, n)
	first, distance := suite.Steps(t)
	for step := first; ; step += distance {
		op.prepare(t, n, p)
		var err error
		seen := tracer.at(step, func() bool {
			_ = unix.Kill(n.PID(), unix.SIGKILL)
			return false
		}, func() { err = op.call(t.Context(), n, p) })
		if len(seen) < step {
			if err != nil {
				t.Fatalf("%s, not disturbed: %v", op.name, err)
			}
			finish(t, n, p, op.name == "unpublish")
			return seen, kills
		}
		kills++
		if status.Code(err) != codes.Unavailable {
			t.Fatalf("%s, killed before step %d (%s): %v", op.name, step, seen[step-1], err)
		}
		if _, err := n.StopDaemon(unix.SIGKILL); err != nil { // waits for its end
			t.Fatal(err)
		}
		mustBeWhole(t, n, p, op, step, seen[step-1])
		tracer = restartTraced(t, n)
		if !giveUp(step) {
			doAgain(t, n, p, op, fmt.Sprintf("after a kill before step %d (%s)", step, seen[step-1]))
		}
		finish(t, n, p, false)
	}
}

// doAgain repeats the interrupted call.
func doAgain(t *testing.T, n *node.Node, p *pod, op operation, when string) {
	t.Helper()
	if err := op.call(t.Context(), n, p); err != nil {
		t.Fatalf("%s again %s: %v", op.name, when, err)
	}
	if op.name == "unpublish" {
		return
	}
	if f, err := p.look(n); err != nil || !f.complete || f.generation != p.now {
		t.Fatalf("%s again %s: found %+v, %v", op.name, when, f, err)
	}
	// A set that was written before the kill is young, and the daemon does not check it before it is due.
	n.Age(t, p.Volume, due)
	publish(t, n, p)
}

// finish unpublishes. If done, the volume was unpublished before.
func finish(t *testing.T, n *node.Node, p *pod, done bool) {
	t.Helper()
	if done {
		if err := p.gone(n); err != nil {
			t.Fatal(err)
		}
	}
	unpublish(t, n, p)
	p.floor = 0
}

func mustBeWhole(t *testing.T, n *node.Node, p *pod, op operation, step int, call string) {
	t.Helper()
	f, err := p.look(n)
	switch {
	case err != nil:
		t.Fatalf("%s, killed before step %d (%s): %v", op.name, step, call, err)
	case f.complete && (f.generation < p.floor || f.generation > p.now),
		!f.complete && op.keeps,
		!f.complete && f.mounts > 0:
		t.Fatalf("%s, killed before step %d (%s), from generation %d to %d: found %+v", op.name, step, call, p.floor, p.now, f)
	}
}

// counted returns "3 openat2, 2 fsconfig".
func counted(calls []string) string {
	counts := map[string]int{}
	for _, c := range calls {
		counts[c]++
	}
	words := make([]string, 0, len(counts))
	for _, c := range slices.Sorted(maps.Keys(counts)) {
		words = append(words, fmt.Sprintf("%d %s", counts[c], c))
	}
	return strings.Join(words, ", ")
}
