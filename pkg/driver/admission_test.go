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

// Volumes of one namespace wait for each other, and no other namespace waits for them.
func TestNamespacesDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	began, end := make(chan string, 100), make(chan struct{})
	f := newFakes()
	f.fetch = func(_ context.Context, r volume.Request) (volume.Content, error) {
		began <- r.Pod.Namespace
		if r.Pod.Namespace == "many" {
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
	var many sync.WaitGroup
	for i := range namespaceSlots + 4 {
		many.Go(func() {
			if err := publish(t.Context(), "many", i); err != nil {
				t.Errorf("a volume that waits: %v", err)
			}
		})
	}
	for range namespaceSlots {
		if got := <-began; got != "many" {
			t.Fatal(got)
		}
	}
	if err := publish(t.Context(), "one", 0); err != nil {
		t.Errorf("a volume of another namespace: %v", err)
	}
	if got := <-began; got != "one" {
		t.Errorf("%s has begun, beyond the slots of its namespace", got)
	}
	// One that waits for a slot until the kubelet gives up.
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if got := status.Code(publish(short, "many", 99)); got != codes.DeadlineExceeded {
		t.Errorf("got %v, want DeadlineExceeded", got)
	}
	close(end)
	many.Wait()
}

// The oldest gets a large slot; the others continue when memory is given back.
func TestAdmission(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission()
		ended, end := context.WithCancel(t.Context())
		end()
		first, second, third := admit(t, a, "shop"), admit(t, a, "shop"), admit(t, a, "shop")
		for _, step := range []struct {
			p     *reservation
			bytes int64
			taken bool
		}{
			{second, namespaceBytes - 10 - 3*entryBytes, true}, // each has an entry
			{third, 10, true},
			{third, 1, false},
			{first, 4 * namespaceBytes, true},
		} {
			if taken := step.p.Hold(ended, step.bytes) == nil; taken != step.taken {
				t.Fatalf("%d bytes were taken: %t", step.bytes, taken)
			}
		}
		done := make(chan error)
		go func() { done <- third.Hold(t.Context(), entryBytes+11) }()
		synctest.Wait()
		first.release() // which had a large slot; second is the oldest of the others
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("more than the share of a namespace is held: %v", err)
		default:
		}
		second.release()
		if err := <-done; err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		fourth := admit(t, a, "shop")
		const text = "waiting for memory of the driver that other volumes hold; mount fewer or smaller volumes at once: context deadline exceeded"
		if err := fourth.Hold(ctx, namespaceBytes); !errors.Is(err, context.DeadlineExceeded) || err.Error() != text {
			t.Errorf("got %v, want %s", err, text)
		}
		third.release()
		fourth.release()
		if len(a.namespaces) != 0 {
			t.Errorf("left behind: %v", a.namespaces)
		}
	})
}

func admit(t *testing.T, a *admission, namespace string) *reservation {
	t.Helper()
	_, p, err := a.admit(t.Context(), namespace, map[string]string{"": ""}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Large slots are given in the order of arrival. A publish without progress is evicted soon, one with progress when its time
// is over.
func TestLargeVolumes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission()
		hang, cancelHang := context.WithCancel(t.Context())
		defer cancelHang()
		type ending struct {
			name  string
			err   error
			after time.Duration
		}
		began, ends := time.Now(), make(chan ending, 10)
		run := func(name string, every time.Duration) {
			ctx, p, err := a.admit(hang, name, nil, nil)
			if err != nil {
				t.Error(err)
				return
			}
			err = p.Hold(ctx, 2*namespaceBytes)
			for err == nil && ctx.Err() == nil {
				select {
				case <-ctx.Done():
				case <-time.After(every):
					err = p.Hold(ctx, 1)
				}
			}
			err = context.Cause(ctx)
			p.release()
			ends <- ending{name, err, time.Since(began)}
		}
		go run("progresses", time.Second)
		synctest.Wait()
		go run("hangs", time.Hour)
		synctest.Wait()
		for i := range 10 { // while no publish waits they stay
			time.Sleep(time.Minute) //nolint:forbidigo // in a bubble, where time is not real
			if len(ends) > 0 {
				t.Fatalf("no publish waits, and after %d minutes %v", i, <-ends)
			}
		}
		began = time.Now()
		admit(t, a, "small").release() // never waits for them
		go run("waits", time.Second)
		go run("waits too", time.Hour)
		for _, want := range []ending{{"hangs", errEvicted, 0}, {"progresses", errEvicted, 0}} {
			got := <-ends
			if got.name == "progresses" && want.name == "hangs" {
				got, want = want, got
			}
			if !errors.Is(got.err, errEvicted) || got.after > 2*largePoll {
				t.Errorf("got %v, want %v", got, want)
			}
		}
		synctest.Wait()
		cancelHang()
		<-ends
		<-ends
		if len(a.large)+len(a.queue)+len(a.namespaces) != 0 {
			t.Errorf("left behind: %+v", a)
		}
	})
}

// What waits is bounded for each namespace, and its small volumes do not wait for the large ones.
func TestWhatWaitsIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission()
		sized := func(size int) map[string]string { return map[string]string{"vault": strings.Repeat("x", size)} }
		_, first, err1 := a.admit(t.Context(), "shop", sized(50<<10), sized(50<<10))
		_, second, err2 := a.admit(t.Context(), "shop", sized(50<<10), sized(50<<10))
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		waits := make(chan *reservation)
		go func() {
			_, third, err := a.admit(t.Context(), "shop", sized(50<<10), sized(50<<10))
			if err != nil {
				t.Error(err)
			}
			waits <- third
		}()
		synctest.Wait()
		const text = "too many large volumes of the namespace are mounted or refreshed at the same time; the kubelet tries again"
		if _, _, err := a.admit(t.Context(), "shop", sized(100<<10), sized(100<<10)); !errors.Is(err, volume.ErrTooLarge) || err.Error() != text {
			t.Errorf("got %v, want %s", err, text)
		}
		_, other, err := a.admit(t.Context(), "other", sized(100<<10), sized(100<<10))
		if err != nil {
			t.Fatalf("another namespace: %v", err)
		}
		small := admit(t, a, "shop")
		first.release()
		for _, p := range []*reservation{<-waits, second, small, other} {
			p.release()
		}
		if len(a.namespaces) != 0 {
			t.Errorf("left behind: %v", a.namespaces)
		}
	})
}

// Hundreds of ordinary volumes of one namespace can start at once: none is refused.
func TestManyOrdinaryVolumesWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const volumes = 400
		a := newAdmission()
		ordinary := map[string]string{"vault": strings.Repeat("x", 2<<10)} // with its token
		var all sync.WaitGroup
		for range volumes {
			all.Go(func() {
				_, p, err := a.admit(t.Context(), "shop", ordinary, nil)
				if err != nil {
					t.Error(err)
					return
				}
				time.Sleep(time.Second) //nolint:forbidigo // in a bubble, where time is not real
				p.release()
			})
		}
		all.Wait()
		if len(a.namespaces) != 0 {
			t.Errorf("left behind: %v", a.namespaces)
		}
	})
}

// A request is measured before it is parsed.
func TestMeasure(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"": 1, "db-password": 1, "a;b;c": 3, "- secret: a\n- secret: b\n": 3, "[{secret: a},{secret: b}]": 5} {
		if size, entries := measure(map[string]string{"objects": text}, map[string]string{"objects": "a;b"}); entries != want || size != int64(17+len(text)) {
			t.Errorf("%q: %d entries in %d bytes, want %d", text, entries, size, want)
		}
	}
}
