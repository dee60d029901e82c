package devcloud

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Service is one of the services of the cloud.
type Service string

// The services, as they stand in [Request], [CountKey] and [Fault].
const (
	ServiceVault Service = "vault"
	ServiceLogin Service = "login"
	ServiceIMDS  Service = "imds"
	ServiceProxy Service = "proxy" // the CONNECT requests themselves; only a fault that names the proxy applies to them
)

// Request is one HTTP request that reached the cloud.
type Request struct {
	Time     time.Time   `json:"time"`
	Service  Service     `json:"service"`
	Host     string      `json:"host"` // lower case, no port
	Kind     string      `json:"kind"` // see CountKey
	Method   string      `json:"method"`
	Path     string      `json:"path"`            // as it was sent, percent-encoding included
	Query    []string    `json:"query,omitempty"` // the names alone, sorted
	Header   http.Header `json:"header"`          // Authorization only says that there was one
	Proto    string      `json:"proto"`
	ClientID string      `json:"clientID,omitempty"` // of the caller, where the service came to know it
	Status   int         `json:"status"`             // 0 while there is no answer, and for ever if the answer was a reset

	Answered   time.Time     `json:"answered"`             // just before the status was sent; zero while there is none
	RetryAfter time.Duration `json:"retryAfter,omitempty"` // that a fault asked for, in nanoseconds

	epoch int // the number of resets before the request: it is not counted again after a later one
}

// CountKey groups requests. In [Cloud.Count] and [Cloud.Wait] an empty field stands for any value.
//
// Kind is for a vault "secrets/get", "secrets/list", "secrets/versions" and the same for certificates and keys; for a
// login host "discovery" (instance discovery), "openid", "keys" and "token"; for the metadata service "token"; for the
// proxy "connect"; else "other". A challenge is a request with status 401.
type CountKey struct {
	Service Service `json:"service"`
	Host    string  `json:"host"`
	Kind    string  `json:"kind"`
	Status  int     `json:"status"`
}

func (k CountKey) matches(filter CountKey) bool {
	return (filter.Service == "" || filter.Service == k.Service) &&
		(filter.Host == "" || strings.EqualFold(filter.Host, k.Host)) &&
		(filter.Kind == "" || filter.Kind == k.Kind) &&
		(filter.Status == 0 || filter.Status == k.Status)
}

// maxRequests bounds what Requests remembers; the counts go on.
const maxRequests = 10_000

// Counts gives the number of requests since the start or the last ResetCounts. Status 0 are those without an answer.
func (c *Cloud) Counts() map[CountKey]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.counts)
}

// Count sums up the requests that match the filter.
func (c *Cloud) Count(filter CountKey) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count(filter)
}

func (c *Cloud) count(filter CountKey) int {
	sum := 0
	for key, n := range c.counts {
		if key.matches(filter) {
			sum += n
		}
	}
	return sum
}

// Requests gives the newest requests, at most 10,000, in the order in which they came.
func (c *Cloud) Requests() []Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]Request, 0, len(c.requests))
	for _, r := range c.requests {
		all = append(all, *r)
	}
	return all
}

// ResetCounts forgets all requests so far.
func (c *Cloud) ResetCounts() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.counts)
	c.requests = nil
	c.epoch++
}

// Wait returns when at least n requests match the filter. Its error is that of ctx, or of the cloud's end.
func (c *Cloud) Wait(ctx context.Context, filter CountKey, n int) error {
	for {
		c.mu.Lock()
		reached, arrived := c.count(filter) >= n, c.arrived
		c.mu.Unlock()
		if reached {
			return nil
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return ctx.Err()
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
	}
}

// record notes a request at its arrival; answered and identified complete the note.
func (c *Cloud) record(service Service, r *http.Request) *Request {
	query := slices.Sorted(maps.Keys(r.URL.Query()))
	header := r.Header.Clone()
	for _, name := range []string{"Authorization", "Proxy-Authorization"} {
		if header.Get(name) != "" {
			header.Set(name, "[redacted]")
		}
	}
	note := &Request{
		Time: c.now(), Service: service, Host: hostOf(r), Kind: kindOf(service, r), Method: r.Method,
		Path: r.URL.EscapedPath(), Query: query, Header: header, Proto: r.Proto,
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	note.epoch = c.epoch
	c.requests = append(c.requests, note)
	if len(c.requests) > maxRequests {
		c.requests = slices.Delete(c.requests, 0, len(c.requests)-maxRequests)
	}
	c.counts[note.key()]++
	c.announce()
	return note
}

func (r *Request) key() CountKey { return CountKey{r.Service, r.Host, r.Kind, r.Status} }

func (c *Cloud) answered(note *Request, status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := note.key()
	note.Status, note.Answered = status, c.now()
	if note.epoch != c.epoch {
		return
	}
	if c.counts[before]--; c.counts[before] == 0 {
		delete(c.counts, before)
	}
	c.counts[note.key()]++
	c.announce()
}

func (c *Cloud) announce() {
	close(c.arrived)
	c.arrived = make(chan struct{})
}

type noteKey struct{}

// identified notes who sent a request.
func (c *Cloud) identified(r *http.Request, clientID string) {
	if note, ok := r.Context().Value(noteKey{}).(*Request); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		note.ClientID = clientID
	}
}

// observe records a request and its status, and lets faults have their way before the service.
func (c *Cloud) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		note := c.record(c.serviceOf(r), r)
		r = r.WithContext(context.WithValue(r.Context(), noteKey{}, note))
		w = &statusWriter{ResponseWriter: w, answered: func(status int) { c.answered(note, status) }}
		c.withFaults(w, r, note, next)
	})
}

// statusWriter reports a status before the client can see it, so that whoever has the answer finds it counted.
type statusWriter struct {
	http.ResponseWriter
	answered func(status int)
	done     bool
}

func (w *statusWriter) WriteHeader(status int) {
	if !w.done {
		w.done = true
		w.answered(status)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	if !w.done {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// serviceOf tells the services apart; only the metadata service has no TLS.
func (c *Cloud) serviceOf(r *http.Request) Service {
	if r.TLS == nil {
		return ServiceIMDS
	}
	if _, ok := c.loginNation(hostOf(r)); ok {
		return ServiceLogin
	}
	return ServiceVault
}

func kindOf(service Service, r *http.Request) string {
	path := strings.Trim(r.URL.EscapedPath(), "/")
	parts := strings.Split(path, "/")
	switch service {
	case ServiceProxy:
		return "connect"
	case ServiceIMDS:
		if path == imdsTokenPath {
			return "token"
		}
	case ServiceLogin:
		switch {
		case strings.HasSuffix(path, "/openid-configuration"):
			return "openid"
		case strings.HasSuffix(path, "/discovery/instance"):
			return "discovery"
		case strings.HasSuffix(path, "/keys"):
			return "keys"
		case strings.HasSuffix(path, "/token"):
			return "token"
		}
	case ServiceVault:
		switch parts[0] {
		case "secrets", "certificates", "keys":
			switch {
			case len(parts) == 1:
				return parts[0] + "/list"
			case len(parts) == 3 && parts[2] == "versions":
				return parts[0] + "/versions"
			default:
				return parts[0] + "/get"
			}
		}
	}
	return "other"
}
