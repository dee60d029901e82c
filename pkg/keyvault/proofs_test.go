package keyvault

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// proving lets so many pods prove themselves at once, and gives how each ended.
func proving(t *testing.T, l *login, pods int) []error {
	t.Helper()
	var waiting sync.WaitGroup
	errs := make([]error, pods)
	for i := range errs {
		ctx := context.WithValue(t.Context(), proverKey{}, prover{pod: podKey{uid: strconv.Itoa(i)}})
		waiting.Go(func() { errs[i] = l.prove(ctx) })
	}
	waiting.Wait()
	return errs
}

// The pods of an identity prove themselves at the same time, but not all.
func TestProofsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &authority{life: time.Hour, hang: time.Second}
		l := &login{inner: a, now: time.Now, after: time.After, proofs: newProofs(time.Now)}
		began := time.Now()
		if err := errors.Join(proving(t, l, 5*proofsAtOnce)...); err != nil {
			t.Error(err)
		}
		a.called(t, 5*proofsAtOnce)
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("%d proofs of a second took %v, want 5s", 5*proofsAtOnce, took)
		}
		proving(t, l, 5*proofsAtOnce)
		if _, err := l.GetToken(t.Context(), policy.TokenRequestOptions{}); err != nil {
			t.Error(err)
		}
		a.called(t, 5*proofsAtOnce) // who has proven himself is not asked again, and the token is there
	})
}

// Proofs wait for an authority that throttles, then one goes first; those that were refused together count as one.
func TestProofsWaitForAThrottlingAuthority(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		refusals := slices.Repeat([]http.Header{{"Retry-After": {"5"}}}, proofsAtOnce+1)
		a := &throttling{refusals: refusals, began: time.Now(), hang: 100 * time.Millisecond}
		l := &login{inner: a, now: time.Now, after: time.After, proofs: newProofs(time.Now)}
		if err := errors.Join(proving(t, l, 40)...); err != nil {
			t.Error(err)
		}
		asked := a.then()
		if len(asked) != 40+len(refusals) {
			t.Fatalf("asked %d times, want %d", len(asked), 40+len(refusals))
		}
		second, third := asked[proofsAtOnce], asked[proofsAtOnce+1]
		switch {
		case asked[proofsAtOnce-1] > 0:
			t.Errorf("the first were asked after %v", asked[:proofsAtOnce])
		case second < 5*time.Second || second > 6*time.Second:
			t.Errorf("asked again %v after the beginning, want 5s", second)
		case third-second < 5*time.Second || third-second > 6*time.Second:
			t.Errorf("asked %v after the second refusal, want 5s: of one request", third-second)
		case asked[proofsAtOnce+2] == third:
			t.Error("not one alone goes first")
		case asked[len(asked)-1]-third > time.Second:
			t.Errorf("the last was asked %v after that", asked[len(asked)-1]-third)
		}
	})
}

// An authority that cannot be reached is not asked by each pod in turn.
func TestProofsInAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &authority{err: &unreached{host: "login.microsoftonline.com"}, hang: time.Second}
		l := &login{inner: a, now: time.Now, after: time.After, proofs: newProofs(time.Now)}
		for i, err := range proving(t, l, 100) {
			if !errors.As(err, new(*unreached)) {
				t.Errorf("pod %d: %v", i, err)
			}
		}
		a.called(t, proofsAtOnce)
		pass(failedPause - time.Second)
		proving(t, l, 100)
		a.called(t, proofsAtOnce)
		pass(failedSpread + time.Second)
		proving(t, l, 1)
		a.called(t, proofsAtOnce+1)
	})
}
