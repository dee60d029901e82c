package azure

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

const (
	// firstBackOff is the pause after a throttling answer without Retry-After. It doubles with each consecutive one, up to
	// lastBackOff. From the second on it is also the least pause if the service gives a Retry-After.
	firstBackOff = time.Second
	lastBackOff  = 30 * time.Second
	// longestPause bounds the Retry-After of a service.
	longestPause = time.Hour
)

// closesThrottle says which answers close a throttle: 429, and every failure with a Retry-After.
func closesThrottle(status int, hasRetryAfter bool) bool {
	return status == http.StatusTooManyRequests || hasRetryAfter && retriable(status)
}

// Throttles says whether an answer closes a throttle, so that the SDK need not wait and try again.
func Throttles(resp *http.Response) bool {
	_, hasRetryAfter := retryAfter(resp.Header, time.Now())
	return closesThrottle(resp.StatusCode, hasRetryAfter)
}

// retriable are the answers upon which the SDK asks again.
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

// withJitter makes a pause up to a tenth longer, at random, so that the nodes of a cluster do not all come back at once.
func withJitter(pause time.Duration) time.Duration {
	return pause + Jitter(max(pause/10, 100*time.Millisecond))
}

// Jitter is a random part of d. Chance only keeps nodes apart; nobody gains by guessing it.
func Jitter(d time.Duration) time.Duration { return rand.N(max(d, 1)) } //nolint:gosec // G404: see above

// retryAfter reads when the service wants to be asked again: milliseconds in the headers of Azure, seconds or a date in
// that of RFC 9110, section 10.2.3. A date counts from the date of the answer, so that the clock of the node does not
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
