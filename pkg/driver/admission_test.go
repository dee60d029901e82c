package driver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Volumes of one namespace wait for each other, and nobody waits for them.
func TestNamespacesDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	began, end := make(chan string, 100), make(chan struct{})
	f := newFakes()
	f.fetch = func(_ context.Context, r volume.Request) (volume.Content, error) {
		began <- r.Pod.Namespace
		if r.Pod.Namespace == "greedy" {
			<-end
		}
		return volume.Content{Fetched: f.clock()}, nil
	}
	h := startDriver(t, f)
	publish := func(ctx context.Context, namespace string, number int) error {
		r := h.request()
		r.TargetPath = strings.Replace(r.TargetPath, "uid-1", fmt.Sprint(namespace, "-", number), 1)
		r.VolumeId = fmt.Sprint(namespace, number)
		r.VolumeContext["csi.storage.k8s.io/pod.namespace"] = namespace
		r.VolumeContext["identity"] = "cluster"
		delete(r.VolumeContext, "clientID")
		delete(r.VolumeContext, "csi.storage.k8s.io/serviceAccount.tokens")
		_, err := h.node.NodePublishVolume(ctx, r)
		return err
	}
	var greedy sync.WaitGroup
	for i := range perNamespace + 4 {
		greedy.Go(func() {
			if err := publish(t.Context(), "greedy", i); err != nil {
				t.Errorf("a volume that had to wait: %v", err)
			}
		})
	}
	for range perNamespace {
		if got := <-began; got != "greedy" {
			t.Fatal(got)
		}
	}
	if err := publish(t.Context(), "modest", 0); err != nil {
		t.Errorf("a volume of another namespace: %v", err)
	}
	if got := <-began; got != "modest" {
		t.Errorf("%s has begun, beyond the turns of its namespace", got)
	}
	// One that has waited for its turn until the kubelet's patience ended.
	impatient, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if got := status.Code(publish(impatient, "greedy", 99)); got != codes.DeadlineExceeded {
		t.Errorf("got %v, want DeadlineExceeded", got)
	}
	close(end)
	greedy.Wait()
}

// Memory: the oldest always goes on, the others when there is room.
func TestAdmission(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission()
		ended, end := context.WithCancel(t.Context())
		end()
		enter := func() *admitted {
			t.Helper()
			p, err := a.enter(t.Context(), "shop", nil)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		first, second, third := enter(), enter(), enter()
		for _, step := range []struct {
			p     *admitted
			bytes int64
			taken bool
		}{
			{second, namespaceBytes - 10, true},
			{third, 10, true},
			{third, 1, false},
			{first, 4 * namespaceBytes, true},
		} {
			if taken := step.p.Hold(ended, step.bytes) == nil; taken != step.taken {
				t.Fatalf("%d bytes were taken: %t", step.bytes, taken)
			}
		}
		done := make(chan error)
		go func() { done <- third.Hold(t.Context(), 11) }()
		synctest.Wait()
		first.leave() // now second is the oldest, and the namespace is full
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("more than the share of a namespace is held: %v", err)
		default:
		}
		second.leave() // now third is
		if err := <-done; err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		fourth := enter()
		const text = "waiting for other volumes of the same namespace, which have their share of the driver's memory: context deadline exceeded"
		if err := fourth.Hold(ctx, namespaceBytes); !errors.Is(err, context.DeadlineExceeded) || err.Error() != text {
			t.Errorf("got %v, want %s", err, text)
		}
		third.leave()
		fourth.leave()
		if len(a.namespaces) != 0 {
			t.Errorf("left behind: %v", a.namespaces)
		}
	})
}

// What a volume asks for counts before it is understood.
func TestEntries(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"": 1, "db-password": 1, "a;b;c": 3, "- secret: a\n- secret: b\n": 3, "[{secret: a},{secret: b}]": 5} {
		if got := entries(map[string]string{"objects": text}); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
	if got := entries(map[string]string{"vault": "shop", "secrets": "a"}); got != 2 {
		t.Error(fmt.Sprint(got))
	}
}
