package devcloud_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

// A limit answers a number of requests in each window. Others get the time until the next window, and do not count in it.
func TestThrottleBeyondALimit(t *testing.T) {
	t.Parallel()
	var now atomic.Int64
	start := time.Now()
	cloud, vault := newCloud(t, devcloud.Options{Now: func() time.Time { return start.Add(time.Duration(now.Load())) }})
	client := cloud.HTTPClient()
	t.Cleanup(client.CloseIdleConnections)
	if status, text := admin(t, cloud, http.MethodPost, "/faults", `{"action":"throttle","service":"vault","limit":2,"window":"10s"}`); status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	inject(t, cloud, devcloud.Fault{Action: devcloud.Challenge, Text: "Bearer"}) // for those within the limit
	for i, test := range []struct {
		at         time.Duration
		status     int
		retryAfter string
	}{
		{0, http.StatusUnauthorized, ""},
		{time.Second, http.StatusUnauthorized, ""},
		{2500 * time.Millisecond, http.StatusTooManyRequests, "8"}, // the rest of the window, rounded up
		{9999 * time.Millisecond, http.StatusTooManyRequests, "1"},
		{12 * time.Second, http.StatusUnauthorized, ""}, // the first of the next window
		{21 * time.Second, http.StatusUnauthorized, ""},
		{21 * time.Second, http.StatusTooManyRequests, "1"},
		{22 * time.Second, http.StatusUnauthorized, ""},
	} {
		now.Store(int64(test.at))
		status, header, _ := get(t, client, http.MethodGet, vault.URL()+"/secrets/a", nil)
		if status != test.status || header.Get("Retry-After") != test.retryAfter {
			t.Errorf("%d, at %s: %d, Retry-After %q; want %d, %q", i, test.at, status, header.Get("Retry-After"), test.status, test.retryAfter)
		}
	}
	var told []time.Duration
	for _, r := range cloud.Requests() {
		if r.Service == devcloud.ServiceVault && r.RetryAfter > 0 {
			told = append(told, r.RetryAfter)
			if !r.Answered.Equal(r.Time) {
				t.Errorf("received at %s and answered at %s by a clock that stood still", r.Time, r.Answered)
			}
		}
	}
	if len(told) != 3 || told[0] != 8*time.Second {
		t.Errorf("the record tells %v", told)
	}
	for _, f := range []devcloud.Fault{
		{Action: devcloud.Throttle, Limit: 2},
		{Action: devcloud.Throttle, Window: time.Second},
		{Action: devcloud.Fail, Limit: 2, Window: time.Second},
	} {
		if _, err := cloud.Inject(f); err == nil || !strings.Contains(err.Error(), "limit and window belong together") {
			t.Errorf("%+v: %v", f, err)
		}
	}
}
