package decode

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/certificate"
)

func newTestDecoders(slots int) *Decoders {
	d := New()
	d.node = semaphore.NewWeighted(int64(slots))
	return d
}

// unused checks, in a synctest bubble, that every slot was released.
func (d *Decoders) unused(t *testing.T, slots int) {
	t.Helper()
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.node.TryAcquire(int64(slots)) || len(d.namespaces) != 0 {
		t.Errorf("slots are taken, or remembered of namespaces: %v", d.namespaces)
	}
}

// works takes a second in a synctest bubble.
func works() error {
	<-time.After(time.Second)
	return nil
}

// The hundreds of certificates of one namespace do not delay the one of another.
func TestNamespacesDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	for slots, each := range map[int]time.Duration{
		1: 2 * time.Second, // alternates with the busy namespace
		3: time.Second,     // has its own slot
	} {
		t.Run(fmt.Sprint(slots), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const many = 250
				d := newTestDecoders(slots)
				began := time.Now()
				var callers sync.WaitGroup
				run := func(namespace string, by time.Duration) {
					callers.Go(func() {
						if err := d.Run(t.Context(), namespace, works); err != nil {
							t.Error(err)
						}
						if took := time.Since(began); took > by {
							t.Errorf("a decoding of the %s namespace ended after %v, want %v at most", namespace, took, by)
						}
					})
					synctest.Wait()
				}
				for range many {
					run("busy", (many+3)*time.Second)
				}
				for i := range 3 {
					run("quiet", time.Duration(i+1)*each)
				}
				callers.Wait()
				d.unused(t, slots)
			})
		})
	}
}

// A decoding that is given up keeps its slot until it ends. Callers wait for the slot until their contexts end. Those
// of other namespaces wait only if there is no other slot.
func TestAGivenUpDecodingKeepsItsSlot(t *testing.T) {
	t.Parallel()
	for slots, wait := range map[int]time.Duration{1: time.Hour - timeout, 2: 0} {
		synctest.Test(t, func(t *testing.T) {
			d := newTestDecoders(slots)
			began := time.Now()
			err := d.Run(t.Context(), "slow", func() error { <-time.After(time.Hour); return nil })
			if took := time.Since(began); !errors.Is(err, errGivenUp) || took != timeout {
				t.Errorf("%v after %v, want %v after %v", err, took, errGivenUp, timeout)
			}
			var callers sync.WaitGroup
			callers.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if err := d.Run(ctx, "slow", works); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%v, want %v", err, context.DeadlineExceeded)
				}
			})
			began = time.Now()
			if err := d.Run(t.Context(), "other", works); err != nil || time.Since(began) != wait+time.Second {
				t.Errorf("%d slots: %v after %v, want a wait of %v", slots, err, time.Since(began), wait)
			}
			callers.Wait()
			<-time.After(time.Hour)
			d.unused(t, slots)
		})
	}
}

// Cancelled callers take no slot, and do not delay their namespace.
func TestCancelledCallersTakeNoSlot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newTestDecoders(1)
		began := time.Now()
		impatient, giveUp := context.WithCancel(t.Context())
		var callers sync.WaitGroup
		run := func(ctx context.Context, namespace string, want error, by time.Duration) {
			callers.Go(func() {
				if err := d.Run(ctx, namespace, works); !errors.Is(err, want) || time.Since(began) > by {
					t.Errorf("%s: %v after %v, want %v after %v", namespace, err, time.Since(began), want, by)
				}
			})
			synctest.Wait()
		}
		run(t.Context(), "busy", nil, time.Second)
		for range 100 {
			run(impatient, "quiet", context.Canceled, 0)
		}
		run(t.Context(), "quiet", nil, 2*time.Second)
		giveUp()
		synctest.Wait()
		for range 10 {
			run(t.Context(), "busy", nil, 12*time.Second)
		}
		callers.Wait()
		d.unused(t, 1)
	})
}

// A panic is the error of one certificate, and its slot is released.
func TestADecodingThatPanics(t *testing.T) {
	t.Parallel()
	d := newTestDecoders(1)
	for range 2 {
		if err := d.Run(t.Context(), "shop", func() error { panic("the key") }); !errors.Is(err, errUnreadable) {
			t.Errorf("%v, want %v", err, errUnreadable)
		}
	}
}

// A value is decoded once for any number of concurrent callers. Another value is decoded separately.
func TestOneDecodingForAll(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../certificate/testdata/pem/rsa-2048.pem")
	if err != nil {
		t.Fatal(err)
	}
	d := newTestDecoders(4)
	split := func(known *Certificate) (*certificate.Bundle, error) {
		return d.Split(t.Context(), "shop", known, "application/x-pem-file", content)
	}
	var known Certificate
	bundles := make([]*certificate.Bundle, 50)
	var callers sync.WaitGroup
	for i := range bundles {
		callers.Go(func() {
			var err error
			if bundles[i], err = split(&known); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	for _, bundle := range bundles {
		if bundle == nil || bundle != bundles[0] {
			t.Fatal("more than one was made")
		}
	}
	if other, err := split(&Certificate{}); err != nil || other == bundles[0] {
		t.Errorf("another value has the same bundle: %t, %v", other == bundles[0], err)
	}
}

// While a decoding that was given up still runs, the next callers do not wait for it. Its result is kept.
func TestTheResultOfAGivenUpDecoding(t *testing.T) {
	t.Parallel()
	for _, result := range []error{nil, errors.New("cannot be used")} {
		synctest.Test(t, func(t *testing.T) {
			d, known := newTestDecoders(1), &Certificate{}
			begun := 0
			decode := func() error {
				bundle, err := d.once(t.Context(), "shop", known, func() (*certificate.Bundle, error) {
					begun++
					<-time.After(time.Minute)
					if result != nil {
						return nil, result
					}
					return &certificate.Bundle{}, nil
				})
				if (bundle == nil) == (err == nil) {
					t.Errorf("%v with a bundle %t", err, bundle != nil)
				}
				return err
			}
			began := time.Now()
			for range 3 {
				if err := decode(); !errors.Is(err, errGivenUp) || time.Since(began) != timeout {
					t.Errorf("%v after %v, want %v after %v", err, time.Since(began), errGivenUp, timeout)
				}
			}
			<-time.After(time.Minute)
			if err := decode(); !errors.Is(err, result) || begun != 1 {
				t.Errorf("%v after %d decodings, want %v after one", err, begun, result)
			}
		})
	}
}
