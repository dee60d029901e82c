package devcloud

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Action is what a [Fault] does to a request.
type Action string

// The actions.
const (
	Throttle  Action = "throttle"  // 429 with the text of the service, and Retry-After if the fault has one
	Fail      Action = "fail"      // an error with Status, 503 if it is 0
	Delay     Action = "delay"     // the correct answer, after Fault.Delay
	Hang      Action = "hang"      // no answer until the client disconnects, the fault is cleared or the cloud is closed
	Cut       Action = "cut"       // the header of the correct answer and After bytes of its body, then the end of the connection
	Stall     Action = "stall"     // the same, but then nothing until the client disconnects, the fault is cleared or the cloud is closed
	Endless   Action = "endless"   // status 200 and the beginning of a JSON object without an end
	Malformed Action = "malformed" // Status, 200 if it is 0, with Text; the default is invalid JSON
	Challenge Action = "challenge" // 401 with Text as WWW-Authenticate; no header if it is empty
	Reset     Action = "reset"     // the connection is reset before any answer

	// UnknownKey is 401 of a vault that does not know the key of a good token, as it comes and goes in Azure.
	UnknownKey Action = "unknown-key"
)

// Fault applies an action to the requests that match it. If several match, only the oldest applies. One with a limit does
// not match before the limit is reached.
type Fault struct {
	Action Action

	// The requests that match. An empty field matches all.
	Service Service // vault, login, imds; or proxy, for CONNECT, which has throttle, fail, delay, hang and reset
	Host    string  // "shop.vault.azure.net", or the name of a vault in the public cloud
	Path    string  // prefix of the path, e.g. "/secrets/db-password", in any case
	Kind    string  // see CountKey, e.g. "secrets/list"
	Query   string  // a parameter of the query, e.g. "client_id=ID"
	Times   int     // number of requests; 0 means until the fault is cleared

	// Of Throttle: the number of requests that are answered in each Window, which begins with its first request. Others
	// are refused and do not count. Their Retry-After is the rest of the window unless RetryAfter is set. 0 refuses all.
	Limit  int
	Window time.Duration

	Status     int           // of Fail and Malformed
	RetryAfter time.Duration // of Throttle and Fail, in whole seconds, rounded up; 0 sends no header
	Delay      time.Duration // before any action
	After      int           // of Cut and Stall, in bytes
	Text       string        // of Malformed and Challenge

	ContentType string // of Malformed; empty means JSON
}

// actions are the actions of a service.
func (s Service) actions() []Action {
	if s == ServiceProxy {
		return []Action{Throttle, Fail, Delay, Hang, Reset}
	}
	actions := []Action{Throttle, Fail, Delay, Hang, Cut, Stall, Endless, Malformed, Challenge, Reset}
	if s == ServiceVault {
		actions = append(actions, UnknownKey)
	}
	return actions
}

type activeFault struct {
	Fault
	left    int           // requests, if Times is set
	opened  time.Time     // the window, if Limit is set
	used    int           // of the limit, in this window
	cleared chan struct{} // closed to end the requests that hang
}

// Inject adds a fault. stop clears it, and may be called more than once.
func (c *Cloud) Inject(f Fault) (stop func(), err error) {
	if actions := f.Service.actions(); !slices.Contains(actions, f.Action) {
		return nil, fmt.Errorf("devcloud: no fault %q, only %v", f.Action, actions)
	}
	if f.Limit < 0 || f.Window < 0 || (f.Limit > 0) != (f.Window > 0) || f.Limit > 0 && f.Action != Throttle {
		return nil, errors.New("devcloud: limit and window belong together, and to throttle")
	}
	if f.Host != "" && !strings.Contains(f.Host, ".") {
		f.Host += ".vault.azure.net"
	}
	active := &activeFault{Fault: f, left: f.Times, cleared: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, active)
	return func() { c.clearFaults(func(a *activeFault) bool { return a == active }) }, nil
}

// ClearFaults ends all faults, and the requests that hang.
func (c *Cloud) ClearFaults() { c.clearFaults(func(*activeFault) bool { return true }) }

func (c *Cloud) clearFaults(which func(*activeFault) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = slices.DeleteFunc(c.faults, func(a *activeFault) bool {
		if !which(a) {
			return false
		}
		close(a.cleared)
		return true
	})
}

// faultFor counts a request at the first fault that matches, and returns the fault with the RetryAfter of this request, or
// nil if there is none.
func (c *Cloud) faultFor(entry *Request, r *http.Request) *activeFault {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.faults {
		if a.Times > 0 && a.left == 0 || !a.matches(entry, r) {
			continue
		}
		rest, within := a.within(c.now())
		if within {
			continue
		}
		a.left--
		one := &activeFault{Fault: a.Fault, cleared: a.cleared}
		one.RetryAfter = (cmp.Or(a.RetryAfter, rest) + time.Second - 1).Truncate(time.Second)
		if one.Action == Throttle || one.Action == Fail {
			entry.RetryAfter = one.RetryAfter
		}
		return one
	}
	return nil
}

// within counts a request and reports whether it is within the limit. If not, rest is the rest of the window.
func (f *activeFault) within(now time.Time) (rest time.Duration, within bool) {
	if f.Limit == 0 {
		return 0, false
	}
	if over := now.Sub(f.opened); over >= f.Window || over < 0 {
		f.opened, f.used = now, 0
	}
	if f.used == f.Limit {
		return f.opened.Add(f.Window).Sub(now), false
	}
	f.used++
	return 0, true
}

func (f *Fault) matches(entry *Request, r *http.Request) bool {
	name, value, _ := strings.Cut(f.Query, "=")
	return (f.Service == entry.Service || f.Service == "" && entry.Service != ServiceProxy) &&
		(f.Action != UnknownKey || r.Header.Get("Authorization") != "") &&
		(f.Host == "" || strings.EqualFold(f.Host, entry.Host)) &&
		strings.HasPrefix(strings.ToLower(r.URL.Path), strings.ToLower(f.Path)) && (f.Kind == "" || f.Kind == entry.Kind) &&
		(f.Query == "" || slices.Contains(r.URL.Query()[name], value))
}

// withFaults answers a request, with a fault if one matches.
func (c *Cloud) withFaults(w http.ResponseWriter, r *http.Request, entry *Request, next http.Handler) {
	f := c.faultFor(entry, r)
	if f == nil {
		next.ServeHTTP(w, r)
		return
	}
	if f.Delay > 0 && !f.wait(r.Context(), f.Delay) {
		panic(http.ErrAbortHandler)
	}
	switch f.Action {
	case Throttle, Fail:
		f.fail(w, r, entry.Service)
	case Hang:
		f.wait(r.Context(), 0)
		panic(http.ErrAbortHandler)
	case Cut:
		begin(w, r, next, f.After)
		panic(http.ErrAbortHandler)
	case Stall:
		begin(w, r, next, f.After)
		f.wait(r.Context(), 0)
		panic(http.ErrAbortHandler)
	case Endless:
		f.endless(w)
	case Malformed:
		w.Header().Set("Content-Type", cmp.Or(f.ContentType, "application/json; charset=utf-8"))
		w.WriteHeader(cmp.Or(f.Status, http.StatusOK))
		_, _ = w.Write([]byte(cmp.Or(f.Text, `{"value": "half a `)))
	case Challenge:
		missing := refusal{code: "Unauthorized", message: "AKV10000: Request is missing a Bearer or PoP token."}
		missing.status, missing.challenge = http.StatusUnauthorized, f.Text
		missing.write(w)
	case UnknownKey:
		c.Vault(entry.Host).unauthorized(unknownKey).write(w)
	case Reset:
		resetConnection(r)
		panic(http.ErrAbortHandler)
	default:
		next.ServeHTTP(w, r)
	}
}

// wait returns true after the time or when the fault is cleared, and false when the request or the cloud ends. 0 means
// without limit.
func (f *activeFault) wait(ctx context.Context, d time.Duration) bool {
	var over <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-over:
	case <-f.cleared:
	case <-ctx.Done():
		return false
	}
	return true
}

// status is the status of Throttle and Fail.
func (f *Fault) status() int {
	if f.Action == Throttle {
		return http.StatusTooManyRequests
	}
	return cmp.Or(f.Status, http.StatusServiceUnavailable)
}

// endless writes until the client disconnects, or the fault is cleared.
func (f *activeFault) endless(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	chunk := bytes.Repeat([]byte("a"), 16<<10)
	_, err := w.Write([]byte(`{"value":"`))
	for err == nil {
		select {
		case <-f.cleared:
			panic(http.ErrAbortHandler)
		default:
			_, err = w.Write(chunk)
		}
	}
}

// fail writes the error of the service.
func (f *activeFault) fail(w http.ResponseWriter, r *http.Request, service Service) {
	status := f.status()
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(f.RetryAfter/time.Second)))
	}
	throttled := status == http.StatusTooManyRequests
	if service != ServiceVault {
		code, text := "temporarily_unavailable", "AADSTS90033: A transient error has occurred. Please try again."
		if throttled {
			code, text = "too_many_requests", "AADSTS90055: The server is busy. Too many requests."
		}
		if service == ServiceIMDS {
			text = "Failed to retrieve token from the Active directory."
		}
		writeJSON(w, status, map[string]string{"error": code, "error_description": text})
		return
	}
	refused := refusal{status: status, code: strings.ReplaceAll(http.StatusText(status), " ", ""), message: "The dev cloud was told to fail."}
	switch {
	case throttled:
		refused.code, refused.message = "Throttled", "Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached"
	case status == http.StatusNotFound:
		kind, name, _ := strings.Cut(strings.Trim(r.URL.Path, "/"), "/")
		refused = *operation{kind: Kind(cmp.Or(kind, string(Secrets))), name: name}.notFound()
	case status == http.StatusServiceUnavailable:
		refused.message = "Service unavailable. Please retry your request later."
	case status == http.StatusInternalServerError:
		refused.message = "The service encountered an internal error and could not complete the request."
	}
	refused.write(w)
}

// begin writes the beginning of the correct answer, with the Content-Length of the whole.
func begin(w http.ResponseWriter, r *http.Request, next http.Handler, after int) {
	whole := &buffer{header: w.Header(), status: http.StatusOK}
	next.ServeHTTP(whole, r)
	w.Header().Set("Content-Length", strconv.Itoa(whole.body.Len()))
	w.WriteHeader(whole.status)
	_, _ = w.Write(whole.body.Next(after))
	_ = http.NewResponseController(w).Flush()
}

type buffer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (b *buffer) Header() http.Header         { return b.header }
func (b *buffer) WriteHeader(status int)      { b.status = status }
func (b *buffer) Write(p []byte) (int, error) { return b.body.Write(p) }
