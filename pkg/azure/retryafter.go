package azure

import (
	"net/http"
	"strconv"
	"time"
)

const (
	// firstBackOff is the pause after a throttling answer without Retry-After. It doubles with each consecutive one,
	// up to lastBackOff. From the second one on it is also the shortest pause if the service sends Retry-After.
	firstBackOff = time.Second
	lastBackOff  = 30 * time.Second
	// longestPause bounds the Retry-After of a service.
	longestPause = time.Hour
)

// closesThrottle reports whether an answer closes a throttle: a 429, or any failure with Retry-After.
func closesThrottle(status int, hasRetryAfter bool) bool {
	return status == http.StatusTooManyRequests || hasRetryAfter && retriable(status)
}

// Throttles reports whether an answer closes a throttle, so that the SDK need not wait and retry.
func Throttles(resp *http.Response) bool {
	_, hasRetryAfter := retryAfter(resp.Header, time.Now())
	return closesThrottle(resp.StatusCode, hasRetryAfter)
}

// retriable reports whether the SDK retries after a status.
func retriable(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	default:
		return false
	}
}

func backOff(consecutive int) time.Duration {
	return min(firstBackOff<<min(consecutive-1, 10), lastBackOff)
}

// retryAfter reads the pause that the service wants: milliseconds in Azure's headers, seconds or a date in the header
// of RFC 9110, section 10.2.3. A date is relative to the date of the answer, so that the clock of the node does not
// matter.
func retryAfter(h http.Header, now time.Time) (pause time.Duration, present bool) {
	bounded := func(n int64, unit time.Duration) time.Duration {
		return min(time.Duration(min(n, int64(longestPause/unit)))*unit, longestPause)
	}
	for _, name := range []string{"retry-after-ms", "x-ms-retry-after-ms"} {
		if n, err := strconv.ParseInt(h.Get(name), 10, 64); err == nil && n > 0 {
			return bounded(n, time.Millisecond), true
		}
	}
	text := h.Get("Retry-After")
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n > 0 {
		return bounded(n, time.Second), true
	}
	when, err := http.ParseTime(text)
	if err != nil {
		return 0, false
	}
	if sent, err := http.ParseTime(h.Get("Date")); err == nil {
		now = sent
	}
	pause = when.Sub(now)
	return min(pause, longestPause), pause > 0
}
