package azure

import (
	"net/http"
	"testing"
	"time"
)

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name   string
		header http.Header
		want   time.Duration
	}{
		{"none", http.Header{}, 0},
		{"seconds", http.Header{"Retry-After": {"7"}}, 7 * time.Second},
		{"a date", http.Header{"Retry-After": {"Mon, 23 Nov 2026 12:00:09 GMT"}}, 9 * time.Second},
		{"a date by the clock of the service", http.Header{
			"Retry-After": {"Mon, 23 Nov 2026 11:30:09 GMT"}, "Date": {"Mon, 23 Nov 2026 11:30:00 GMT"},
		}, 9 * time.Second},
		{"a date of the past", http.Header{"Retry-After": {"Mon, 23 Nov 2026 11:00:00 GMT"}}, 0},
		{"milliseconds", http.Header{"Retry-After-Ms": {"1500"}}, 1500 * time.Millisecond},
		{"milliseconds of Azure", http.Header{"X-Ms-Retry-After-Ms": {"20"}}, 20 * time.Millisecond},
		{"the finer one", http.Header{"Retry-After-Ms": {"1500"}, "Retry-After": {"2"}}, 1500 * time.Millisecond},
		{"zero", http.Header{"Retry-After": {"0"}}, 0},
		{"negative", http.Header{"Retry-After": {"-5"}}, 0},
		{"nonsense", http.Header{"Retry-After": {"soon"}}, 0},
		{"a year", http.Header{"Retry-After": {"31536000"}}, time.Hour},
		{"a number without end", http.Header{"Retry-After": {"9223372036854775807"}}, time.Hour},
	} {
		pause, named := retryAfter(test.header, now)
		if pause = max(pause, 0); pause != test.want || named != (test.want > 0) {
			t.Errorf("%s: %v, %t, want %v", test.name, pause, named, test.want)
		}
	}
}
