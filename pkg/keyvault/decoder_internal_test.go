package keyvault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// blob is a value of so many bytes.
func blob(n int) kept { return make(kept, n) }

func newTestDecoder(turns int) *decoder {
	d := newDecoder(time.Now)
	d.turns = newTurns(turns)
	return d
}

func contentOf(namespace string, i int) content {
	return content{contentKey: contentKey{namespace, [32]byte{byte(i >> 8), byte(i)}}}
}

// queued waits until so many wait for a turn.
func (d *decoder) queued(t *testing.T, n int) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		d.turns.mu.Lock()
		waiting := len(d.turns.waiting)
		d.turns.mu.Unlock()
		if waiting == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d wait, want %d", waiting, n)
		}
		<-time.After(time.Millisecond)
	}
}

// One namespace's hundreds of certificates do not come before another's one.
func TestNamespacesTakeTurns(t *testing.T) {
	t.Parallel()
	for _, parallel := range []int{1, 3} {
		t.Run(fmt.Sprint(parallel), func(t *testing.T) {
			t.Parallel()
			d := newTestDecoder(parallel)
			begin := make(chan struct{})
			var mu sync.Mutex
			var order []string
			var group sync.WaitGroup
			decode := func(namespace string, i int) {
				group.Go(func() {
					_, _, err := d.once(t.Context(), contentOf(namespace, i), func() (any, error) {
						mu.Lock()
						order = append(order, namespace)
						mu.Unlock()
						<-begin
						return blob(1), nil
					})
					if err != nil {
						t.Error(err)
					}
				})
			}
			const many = 250
			for i := range many {
				decode("crowd", i)
			}
			d.queued(t, many-parallel)
			for i := range 3 { // one of them has been served before
				decode("quiet", i)
			}
			d.queued(t, many-parallel+3)
			close(begin)
			group.Wait()
			seen := 0
			for i, namespace := range order {
				if namespace == "quiet" {
					seen++
					// In each round both have one turn; beside those that worked already.
					if latest := parallel + 2*seen*max(1, parallel); i >= latest {
						t.Errorf("the quiet namespace's certificate %d is the %dth to be decoded, want at most %d", seen, i+1, latest)
					}
				}
			}
			if seen != 3 || len(order) != many+3 {
				t.Errorf("%d of %d decodings are the quiet namespace's", seen, len(order))
			}
		})
	}
}

// A decoding that was given up has its turn until it ends, and is neither begun again nor lost.
func TestAGivenUpDecodingKeepsItsTurn(t *testing.T) {
	t.Parallel()
	d := newTestDecoder(1)
	d.timeout = time.Nanosecond
	end := make(chan struct{})
	slow := contentOf("a", 1)
	for range 3 {
		_, _, err := d.once(t.Context(), slow, func() (any, error) { <-end; return blob(1), nil })
		if !errors.Is(err, errGivenUp) {
			t.Fatalf("%v, want %v", err, errGivenUp)
		}
	}
	if d.begun != 1 {
		t.Errorf("%d decodings, want 1", d.begun)
	}
	d.timeout = time.Hour
	waits, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, _, err := d.once(waits, contentOf("b", 1), func() (any, error) { return blob(1), nil })
		failed <- err
	}()
	d.queued(t, 1)
	cancel() // whoever waits obeys his context
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
	d.queued(t, 0)
	go func() {
		_, _, err := d.once(t.Context(), contentOf("b", 2), func() (any, error) { return blob(1), nil })
		failed <- err
	}()
	d.queued(t, 1)
	close(end)
	if err := <-failed; err != nil {
		t.Error(err)
	}
	if _, entry, err := d.once(t.Context(), slow, func() (any, error) { return nil, errors.New("again") }); err != nil || entry == nil {
		t.Errorf("what came late is lost: %v", err)
	}
}

// The same content of one namespace is decoded once, however many ask at the same time; another's is its own.
func TestOneDecodingForAll(t *testing.T) {
	t.Parallel()
	d := newTestDecoder(4)
	var group sync.WaitGroup
	for range 50 {
		for _, namespace := range []string{"a", "b"} {
			group.Go(func() {
				value, entry, err := d.once(t.Context(), contentOf(namespace, 1), func() (any, error) { return blob(1), nil })
				if !bytes.Equal(value.(kept), blob(1)) || entry == nil || err != nil {
					t.Errorf("%v, %v, %v", value, entry, err)
				}
			})
		}
	}
	group.Wait()
	if d.begun != 2 {
		t.Errorf("%d decodings, want 2", d.begun)
	}
}

// Memory is bounded, and who has most makes room for others, not they for him.
func TestRoomForDecodings(t *testing.T) {
	t.Parallel()
	d := newTestDecoder(1)
	const each, sealing = 10_000, 28 // bytes; the latter of AES-GCM with its nonce
	d.limit = 20 * (each + sealing + decodedEntry)
	decode := func(namespace string, i int) *decoded {
		_, entry, err := d.once(t.Context(), contentOf(namespace, i), func() (any, error) { return blob(each), nil })
		if err != nil {
			t.Fatal(err)
		}
		if entry != nil {
			d.hold([]*decoded{entry})
		}
		return entry
	}
	again := func(namespace string, n int) int {
		before := d.begun
		for i := range n {
			decode(namespace, i)
		}
		return d.begun - before
	}
	again("crowd", 100)
	if n := again("crowd", 100); n != 80 { // not all 100: what is kept is of use
		t.Errorf("%d of 100 were decoded again, want 80", n)
	}
	again("quiet", 5)
	again("crowd", 100)
	if n := again("quiet", 5); n != 0 {
		t.Errorf("%d of 5 were decoded again, want none", n)
	}
	if d.bytes > d.limit {
		t.Errorf("%d bytes, want at most %d", d.bytes, d.limit)
	}
	if e := decode("crowd", 101); e != nil {
		t.Error("a volume holds what is not counted")
	}
}

// A panic is one certificate's trouble, and gives the turn back.
func TestADecodingThatPanics(t *testing.T) {
	t.Parallel()
	d := newTestDecoder(1)
	for i := range 2 {
		_, _, err := d.once(t.Context(), contentOf("a", i), func() (any, error) { panic("no") })
		if !errors.Is(err, errUnreadable) {
			t.Errorf("%v, want %v", err, errUnreadable)
		}
	}
}

// Nobody can read what is remembered of a certificate but who has the same content again, whichever parts it has.
func TestWhatIsRememberedIsSealed(t *testing.T) {
	t.Parallel()
	c, err := New(Options{Cloud: Cloud{Name: "x", AuthorityHost: "https://login.example.com", VaultSuffix: "vault.example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile("testdata/pem/rsa-2048.pem")
	if err != nil {
		t.Fatal(err)
	}
	u := &unpacking{got: &got{value: volume.NewSecret(content), contentType: contentPEM}}
	fresh, err := c.unpack(t.Context(), "shop", u)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.unpack(t.Context(), "shop", u)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []volume.Part{volume.PartKey, volume.PartChain, volume.PartPEM} {
		want, err := fresh.part(volume.Object{}, part)
		got, errAgain := again.part(volume.Object{}, part)
		if err != nil || errAgain != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is another when it is remembered (%v, %v)", part, err, errAgain)
		}
	}
	if !again.notAfter.Equal(fresh.notAfter) || fresh.notAfter.IsZero() {
		t.Errorf("it ends %v, and %v when it is remembered", fresh.notAfter, again.notAfter)
	}
	if len(c.decoder.known) != 1 {
		t.Errorf("%d entries, want 1", len(c.decoder.known))
	}
	for _, e := range c.decoder.known {
		for _, secret := range [][]byte{fresh.key.block.Bytes[100:132], fresh.certs[0].der[:32]} {
			if len(e.value) < 1000 || bytes.Contains(e.value, secret) {
				t.Error("it is not sealed")
			}
		}
		if _, err := c.content("shop", []byte("another")).opened(e.value); err == nil {
			t.Error("another content opens it")
		}
	}
}
