package keyvault_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
)

// The vault wants a new token (continuous access evaluation), and Entra ID refuses the login: nothing of it may be served.
func TestALoginRefusedInsideARead(t *testing.T) {
	w := newWorld(t, maxAge(time.Hour))
	for _, n := range []string{"a", "b", "c"} {
		w.vault.SetSecret(n, "x", devcloud.SecretOptions{})
	}
	w.fetch(first("one", w.asServicePrincipal(secret("a"), secret("b"))))
	w.must(w.AddIdentity(devcloud.Identity{Tenant: tenantID, ClientID: clientID}))
	w.inject(devcloud.Fault{Action: devcloud.Challenge, Service: devcloud.ServiceVault, Text: `Bearer error="insufficient_claims", claims="e30="`})
	_, err := w.client.Fetch(t.Context(), first("two", w.asServicePrincipal(secret("c"))))
	t.Log(err)
	if err == nil {
		t.Fatal("want a refusal")
	}
	if content, err := w.client.Fetch(t.Context(), first("three", w.asServicePrincipal(secret("a")))); err == nil {
		t.Errorf("served from memory after the login was refused: %d files", len(content.Files))
	} else {
		t.Log(err)
	}
}

func TestAHitIsCountedOnce(t *testing.T) {
	registry := prometheus.NewRegistry()
	w := newWorld(t, maxAge(time.Hour), func(o *keyvault.Options) { o.Metrics = registry })
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	w.fetch(first("one", w.pod("1", secret("a"))))
	w.fetch(first("two", w.pod("2", secret("a"))))
	for _, line := range scrape(t, registry) {
		if strings.HasPrefix(line, "cache_requests_total") {
			t.Log(line)
			if strings.Contains(line, "hit") && !strings.HasSuffix(line, " 1") {
				t.Error("one object of one volume is one hit")
			}
		}
	}
}

func TestTheTimeEndsAtTheVault(t *testing.T) {
	w := newWorld(t)
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := w.client.Fetch(ctx, w.asServicePrincipal(secret("a")))
	t.Log(err)
	if !strings.Contains(fmt.Sprint(err), "waiting for the vault:") {
		t.Error("nobody is named")
	}
}

func TestAProofAtAThrottledVault(t *testing.T) {
	w := newWorld(t)
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	w.inject(devcloud.Fault{Action: devcloud.Throttle, Service: devcloud.ServiceVault, RetryAfter: 60 * time.Second})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	began := time.Now()
	_, err := w.client.Fetch(ctx, w.pod("1", secret("a")))
	t.Log(time.Since(began), err)
	if time.Since(began) > 2*time.Second {
		t.Error("waits although the vault does not want to be asked in time")
	}
}

// A throttled renewal with a good token must not fail anybody.
func TestAThrottledRenewalOfOneRead(t *testing.T) {
	w := newWorld(t)
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	w.fetch(first("one", w.asServicePrincipal(secret("a"))))
	w.later(57 * time.Minute)
	w.inject(devcloud.Fault{Action: devcloud.Throttle, Service: devcloud.ServiceLogin, RetryAfter: 3000 * time.Second})
	failed := 0
	for i := range 200 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if _, err := w.client.Fetch(ctx, first("one", w.asServicePrincipal(secret("a")))); err != nil {
			if failed++; failed < 3 {
				t.Log(i, err)
			}
		}
		cancel()
	}
	if failed > 0 {
		t.Errorf("%d of 200 failed although there is a good token", failed)
	}
}

func TestAThrottledRenewalOfManyReads(t *testing.T) {
	w := newWorld(t)
	for i := range 32 {
		w.vault.SetSecret(fmt.Sprint("s", i), "x", devcloud.SecretOptions{})
	}
	w.fetch(first("one", w.asServicePrincipal(secret("s0"))))
	w.later(57 * time.Minute)
	w.inject(devcloud.Fault{Action: devcloud.Throttle, Service: devcloud.ServiceLogin, RetryAfter: 3000 * time.Second})
	failed := make([]int, 32)
	done := make(chan struct{})
	for i := range 32 {
		go func() {
			defer func() { done <- struct{}{} }()
			for range 20 {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				if _, err := w.client.Fetch(ctx, first(fmt.Sprint("v", i), w.asServicePrincipal(secret(fmt.Sprint("s", i))))); err != nil {
					if failed[i]++; failed[i] < 2 {
						t.Log(i, err)
					}
				}
				cancel()
			}
		}()
	}
	sum := 0
	for range 32 {
		<-done
	}
	for _, n := range failed {
		sum += n
	}
	if sum > 0 {
		t.Errorf("%d of 9600 failed although there is a good token", sum)
	}
}

func BenchmarkReviewFetch(b *testing.B) {
	t := &testing.T{}
	_ = t
}

// Values that are too old for everybody stay as long as an outage lasts.
func TestAnOutageKeepsNoValue(t *testing.T) {
	w := newWorldOfValues(t, "a")
	r := w.asServicePrincipal(secret("a"))
	w.fetch(first("one", r))
	w.inject(devcloud.Fault{Action: devcloud.Fail, Service: devcloud.ServiceVault, Status: 500})
	for range 30 {
		w.later(2 * time.Minute)
		_, _ = w.client.Fetch(t.Context(), refresh("one", r))
	}
	if n := w.values(); n != 0 {
		t.Errorf("%d values an hour old, of a volume with an interval of %v", n, interval)
	}
}
