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

// The services in [Request], [CountKey] and [Fault].
const (
	ServiceVault Service = "vault"
	ServiceLogin Service = "login"
	ServiceIMDS  Service = "imds"
	ServiceProxy Service = "proxy" // the CONNECT requests; only faults of this service apply to them
)

// Request is one HTTP request that reached the cloud.
type Request struct {
	Time     time.Time   `json:"time"`
	Service  Service     `json:"service"`
	Host     string      `json:"host"` // lower case, no port
	Kind     string      `json:"kind"` // see CountKey
	Method   string      `json:"method"`
	Path     string      `json:"path"`            // as sent, with percent-encoding
	Query    []string    `json:"query,omitempty"` // the names only, sorted
	Header   http.Header `json:"header"`          // the value of Authorization is redacted
	Proto    string      `json:"proto"`
	ClientID string      `json:"clientID,omitempty"` // of the caller, if known
	Status   int         `json:"status"`             // 0 before the answer, and after a reset

	Answered   time.Time     `json:"answered"`             // just before the status was sent; zero before that
	RetryAfter time.Duration `json:"retryAfter,omitempty"` // of the fault, in nanoseconds

	epoch int // Cloud.epoch at the request, which is not counted after a later reset
}

// CountKey groups requests. In [Cloud.Count] and [Cloud.Wait] an empty field means any value.
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

// maxRequests bounds Requests, but not the counts.
const maxRequests = 10_000

// Counts returns the number of requests since the start or the last ResetCounts. Status 0 means no answer yet.
func (c *Cloud) Counts() map[CountKey]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.counts)
}

// Count returns the number of requests that match the filter.
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

// Requests returns the newest requests, at most 10,000, oldest first.
func (c *Cloud) Requests() []Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]Request, 0, len(c.requests))
	for _, r := range c.requests {
		all = append(all, *r)
	}
	return all
}

// ResetCounts removes all requests so far.
func (c *Cloud) ResetCounts() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.counts)
	c.requests = nil
	c.epoch++
}

// Wait returns when at least n requests match the filter. It returns an error when ctx or the cloud ends first.
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

// record adds an entry for a request at its arrival; answered and identified complete it.
func (c *Cloud) record(service Service, r *http.Request) *Request {
	query := slices.Sorted(maps.Keys(r.URL.Query()))
	header := r.Header.Clone()
	for _, name := range []string{"Authorization", "Proxy-Authorization"} {
		if header.Get(name) != "" {
			header.Set(name, "[redacted]")
		}
	}
	entry := &Request{
		Time: c.now(), Service: service, Host: hostOf(r), Kind: kindOf(service, r), Method: r.Method,
		Path: r.URL.EscapedPath(), Query: query, Header: header, Proto: r.Proto,
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	entry.epoch = c.epoch
	c.requests = append(c.requests, entry)
	if len(c.requests) > maxRequests {
		c.requests = slices.Delete(c.requests, 0, len(c.requests)-maxRequests)
	}
	c.counts[entry.key()]++
	c.announce()
	return entry
}

func (r *Request) key() CountKey { return CountKey{r.Service, r.Host, r.Kind, r.Status} }

func (c *Cloud) answered(entry *Request, status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := entry.key()
	entry.Status, entry.Answered = status, c.now()
	if entry.epoch != c.epoch {
		return
	}
	if c.counts[before]--; c.counts[before] == 0 {
		delete(c.counts, before)
	}
	c.counts[entry.key()]++
	c.announce()
}

func (c *Cloud) announce() {
	close(c.arrived)
	c.arrived = make(chan struct{})
}

type entryKey struct{}

// identified records the sender of a request.
func (c *Cloud) identified(r *http.Request, clientID string) {
	if entry, ok := r.Context().Value(entryKey{}).(*Request); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		entry.ClientID = clientID
	}
}

// observe records a request and its status, and applies faults before the service.
func (c *Cloud) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entry := c.record(c.serviceOf(r), r)
		r = r.WithContext(context.WithValue(r.Context(), entryKey{}, entry))
		w = &statusWriter{ResponseWriter: w, answered: func(status int) { c.answered(entry, status) }}
		c.withFaults(w, r, entry, next)
	})
}

// statusWriter reports the status before the client receives it, so that a client with an answer finds it counted.
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

// serviceOf returns the service of a request. Only the metadata service has no TLS.
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
