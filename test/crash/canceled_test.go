package crash_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// A caller gives up before each system call of the daemon. The daemon then makes the call.
func TestCanceledBeforeEverySystemCall(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{Flags: []string{"--mount-max-age=0"}})
	quit(t, n)
	tracer := restartTraced(t, n)
	p := newPod(n, "pod", 2, tracedSize)
	publish(t, n, p) // opens all connections
	unpublish(t, n, p)
	p.floor = 0
	before := n.AtRest(t)
	total := 0
	for _, op := range operations() {
		steps := cancelAtEach(t, n, tracer, p, op)
		total += steps
		t.Logf("%s: canceled before %d calls", op.name, steps)
	}
	n.AwaitRest(t, before)
	logVerdict(t, "canceled calls: %d, each before another system call; every volume whole or absent, the next call works, nothing leaked", total)
}

func cancelAtEach(t *testing.T, n *node.Node, tracer *tracer, p *pod, op operation) (canceled int) {
	t.Helper()
	first, distance := suite.Steps(t)
	for step := first; ; step += distance {
		op.prepare(t, n, p)
		ctx, cancel := context.WithCancel(t.Context())
		var err error
		left := make(chan struct{})
		seen := tracer.at(step, func() bool {
			cancel()
			<-left           // else the answer might arrive before the caller has given up
			mustAnswer(t, n) // on the same connection, so the daemon has received the cancellation
			return true
		}, func() {
			defer close(left)
			err = op.call(ctx, n, p)
		})
		cancel()
		if len(seen) < step {
			if err != nil {
				t.Fatalf("%s, not disturbed: %v", op.name, err)
			}
			finish(t, n, p, op.name == "unpublish")
			return canceled
		}
		canceled++
		if status.Code(err) != codes.Canceled {
			t.Fatalf("%s, canceled before step %d (%s): %v", op.name, step, seen[step-1], err)
		}
		untilFree(t, n, p)
		f, err := p.look(n)
		switch {
		case err != nil:
			t.Fatalf("%s, canceled before step %d (%s): %v", op.name, step, seen[step-1], err)
		case f.complete && (f.generation < p.floor || f.generation > p.now),
			!f.complete && op.keeps,
			!f.complete && (f.mounts > 0 || f.folder),
			!f.tidy() && f.generation < p.now:
			t.Fatalf("%s, canceled before step %d (%s), from generation %d to %d: found %+v", op.name, step, seen[step-1], p.floor, p.now, f)
		}
		doAgain(t, n, p, op, "after a cancellation")
		finish(t, n, p, false)
	}
}

func mustAnswer(t *testing.T, n *node.Node) {
	t.Helper()
	if _, err := n.Identity.Probe(t.Context(), &csi.ProbeRequest{}); err != nil {
		t.Error(err)
	}
}

// untilFree waits until no call for the pod's target runs. It calls with invalid attributes, which change nothing.
func untilFree(t *testing.T, n *node.Node, p *pod) {
	t.Helper()
	bad := p.Volume
	bad.Attributes = map[string]string{"nonsense": ""}
	suite.Eventually(t, "a call that was given up ends", func() bool { return status.Code(n.Publish(t.Context(), bad)) != codes.Aborted })
}

// A caller gives up or runs into its deadline while the daemon waits for Entra ID or the vault, and before the call begins.
func TestCanceledInTheFetch(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{Flags: []string{"--mount-max-age=0"}})
	p := newPod(n, "pod", 3, 100)
	publish(t, n, p)
	before := n.AtRest(t)
	for name, test := range map[string]struct {
		end  func(t *testing.T, n *node.Node, p *pod) error // a call that ends too early
		code codes.Code
	}{
		"canceled before it begins":    {canceledBefore, codes.Canceled},
		"canceled in the fetch":        {canceledInFetch, codes.Canceled},
		"out of time in the fetch":     {lateInFetch, codes.DeadlineExceeded},
		"out of time before it begins": {lateBefore, codes.DeadlineExceeded},
	} {
		for _, first := range []bool{true, false} {
			q := p
			if first {
				q = newPod(n, "first", 3, 100)
			} else {
				n.Age(t, p.Volume, stale)
				p.change(n)
			}
			if err := test.end(t, n, q); status.Code(err) != test.code && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v, want %v", name, err, test.code)
			}
			untilFree(t, n, q)
			f, err := q.look(n)
			if err != nil || first && (f.folder || f.mounts > 0) || !first && (!f.complete || f.generation != q.floor || !f.tidy()) {
				t.Errorf("%s: found %+v, %v, want generation %d", name, f, err, q.floor)
			}
			publishSoon(t, n, q)
			if first {
				unpublish(t, n, q)
			}
		}
	}
	n.AwaitRest(t, before)
}

func canceledBefore(t *testing.T, n *node.Node, p *pod) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return n.Publish(ctx, p.Volume)
}

func canceledInFetch(t *testing.T, n *node.Node, p *pod) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	return hanging(ctx, t, n, p, func(func()) { cancel() })
}

func lateBefore(t *testing.T, n *node.Node, p *pod) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	return n.Publish(ctx, p.Volume)
}

// lateInFetch doubles the deadline until the call reaches the vault.
func lateInFetch(t *testing.T, n *node.Node, p *pod) (err error) {
	t.Helper()
	for patience := 100 * time.Millisecond; patience < suite.Patience; patience *= 2 {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		reached := false
		err = hanging(ctx, t, n, p, func(func()) { reached = true })
		cancel()
		if reached {
			return err
		}
		untilFree(t, n, p)
	}
	t.Error("no call reaches the vault in its time")
	return err
}

// hanging publishes while the vault does not answer, and calls asked once the vault has been asked. The vault answers again when
// asked calls release, or the publish has ended.
func hanging(ctx context.Context, t *testing.T, n *node.Node, p *pod, asked func(release func())) error {
	t.Helper()
	clear, err := n.Cloud.Inject(devcloud.Fault{Action: devcloud.Hang, Service: devcloud.ServiceVault})
	if err != nil {
		t.Fatal(err)
	}
	defer clear()
	vault := devcloud.CountKey{Service: devcloud.ServiceVault}
	before := n.Cloud.Count(vault)
	answered, end := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		defer end()
		done <- n.Publish(ctx, p.Volume)
	}()
	if n.Cloud.Wait(answered, vault, before+1) == nil {
		asked(clear)
	}
	return <-done
}

// publishSoon repeats a publish as the kubelet does: the daemon answers a call after a failed fetch with the same error.
func publishSoon(t *testing.T, n *node.Node, p *pod) {
	t.Helper()
	var err error
	suite.Eventually(t, "a publish answers OK again", func() bool {
		err = n.Publish(t.Context(), p.Volume)
		return err == nil
	})
	if err := p.current(n); err != nil {
		t.Fatal(err)
	}
}
