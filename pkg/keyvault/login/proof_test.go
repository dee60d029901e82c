package login

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

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
)

// proving runs the proofs of several pods concurrently, and returns their errors.
func proving(t *testing.T, l *Login, pods int) []error {
	t.Helper()
	var waiting sync.WaitGroup
	errs := make([]error, pods)
	for i := range errs {
		ctx := context.WithValue(t.Context(), proverKey{}, prover{pod: pod{uid: strconv.Itoa(i)}})
		waiting.Go(func() { errs[i] = l.Prove(ctx) })
	}
	waiting.Wait()
	return errs
}

// The pods of an identity prove themselves concurrently, up to a limit.
func TestProofsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &authority{life: time.Hour, hang: time.Second}
		l := newLogin(t, a)
		began := time.Now()
		if err := errors.Join(proving(t, l, 5*azure.ConnsPerHost)...); err != nil {
			t.Error(err)
		}
		a.called(t, 5*azure.ConnsPerHost)
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("%d proofs of a second took %v, want 5s", 5*azure.ConnsPerHost, took)
		}
		proving(t, l, 5*azure.ConnsPerHost)
		if _, err := l.GetToken(t.Context(), policy.TokenRequestOptions{}); err != nil {
			t.Error(err)
		}
		a.called(t, 5*azure.ConnsPerHost) // no pod proves itself twice, and the token is there
	})
}

// Proofs wait for a throttling authority, then one is sent first. Those that were refused together count as one.
func TestProofsWaitForAThrottlingAuthority(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		refusals := slices.Repeat([]http.Header{{"Retry-After": {"5"}}}, azure.ConnsPerHost+1)
		a := newThrottlingAuthority(100*time.Millisecond, refusals...)
		l := newLogin(t, a)
		if err := errors.Join(proving(t, l, 40)...); err != nil {
			t.Error(err)
		}
		asked := a.then()
		if len(asked) != 40+len(refusals) {
			t.Fatalf("asked %d times, want %d", len(asked), 40+len(refusals))
		}
		second, third := asked[azure.ConnsPerHost], asked[azure.ConnsPerHost+1]
		switch {
		case asked[azure.ConnsPerHost-1] > 0:
			t.Errorf("the first were asked after %v", asked[:azure.ConnsPerHost])
		case second < 5*time.Second || second > 6*time.Second:
			t.Errorf("asked again %v after the beginning, want 5s", second)
		case third-second < 5*time.Second || third-second > 6*time.Second:
			t.Errorf("asked %v after the second refusal, want 5s as after one request", third-second)
		case asked[azure.ConnsPerHost+2] == third:
			t.Error("the first request after the pause is not sent alone")
		case asked[len(asked)-1]-third > time.Second:
			t.Errorf("the last was asked %v after that", asked[len(asked)-1]-third)
		}
	})
}

// An unreachable authority is not asked once per pod.
func TestProofsInAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &authority{err: &azure.Unreached{Host: "login.microsoftonline.com"}, hang: time.Second}
		l := newLogin(t, a)
		for i, err := range proving(t, l, 100) {
			if !errors.As(err, new(*azure.Unreached)) {
				t.Errorf("pod %d: %v", i, err)
			}
		}
		a.called(t, azure.ConnsPerHost)
		pass(failedPause - time.Second)
		proving(t, l, 100)
		a.called(t, azure.ConnsPerHost)
		pass(failedSpread + time.Second)
		proving(t, l, 1)
		a.called(t, azure.ConnsPerHost+1)
	})
}
