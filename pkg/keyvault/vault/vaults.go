package vault

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
)

// FetchTimeout bounds one read, including its waits.
const FetchTimeout = 2 * time.Minute

const (
	// idleVault is how long the tenant of an unused vault is kept. A name without any answer is dropped after
	// FetchTimeout, because pods can name any number of vaults.
	idleVault     = time.Hour
	maxRetryDelay = 30 * time.Second
)

// Options of [New].
type Options struct {
	Cloud      azure.Cloud
	APIVersion string        // of the vaults' interface; empty means the SDK's
	TryTimeout time.Duration // of one attempt of a request; 0 means azure.TryTimeout
	Sender     *azure.Sender
	Memory     *azure.Memory
	Now        func() time.Time
	After      func(time.Duration) <-chan time.Time
	Random     func() float64 // in [0, 1), for jitter; nil means math/rand
}

// Vaults reads from the vaults of a cloud. It is safe for concurrent use.
type Vaults struct {
	options    Options
	metrics    metrics
	challenges singleflight.Group

	mu      sync.Mutex
	known   map[string]*state
	readers map[readerOf]*Reader
}

// state is the state of one vault.
type state struct {
	throttle *azure.Throttle
	tenant   string // from its challenge; empty while unknown
	used     time.Time
}

// New makes the Vaults of a cloud. It registers its metrics if r is not nil. It sends no request.
func New(o Options, r prometheus.Registerer) (*Vaults, error) {
	v := &Vaults{options: o, metrics: newMetrics(), known: map[string]*state{}, readers: map[readerOf]*Reader{}}
	return v, v.metrics.register(r)
}

// of returns the state of a vault. The caller holds v.mu.
func (v *Vaults) of(vault string) *state {
	s, ok := v.known[vault]
	if !ok {
		s = &state{throttle: azure.NewThrottle(azure.Vault, azure.ConnsPerHost, v.options.Now, v.options.After, v.options.Random)}
		v.known[vault] = s
	}
	s.used = v.options.Now()
	return s
}

// Throttle returns the throttle of a vault.
func (v *Vaults) Throttle(vault string) *azure.Throttle {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.of(vault).throttle
}

// Rate returns how many requests a second this node may send to a vault; 0 means that there is no limit.
func (v *Vaults) Rate(vault string) float64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s, ok := v.known[vault]; ok {
		return s.throttle.Rate()
	}
	return 0
}

// Tenant returns the tenant of a vault, if its challenge is known.
func (v *Vaults) Tenant(vault string) (tenant string, known bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s, ok := v.known[vault]; ok && s.tenant != "" {
		s.used = v.options.Now()
		return s.tenant, true
	}
	return "", false
}

// Tidy drops the readers, and the state of vaults that were not used recently.
func (v *Vaults) Tidy() {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.readers)
	now := v.options.Now()
	for vault, s := range v.known {
		idle := now.Sub(s.used)
		if idle > idleVault || idle > FetchTimeout && s.tenant == "" && s.throttle.Unused() {
			delete(v.known, vault)
		}
	}
}

// Use marks vaults as used by a volume, until [Vaults.Release] was called as often. Only used vaults are labels of
// metrics.
func (v *Vaults) Use(vaults []string) { v.metrics.use(vaults) }

// Release undoes [Vaults.Use].
func (v *Vaults) Release(vaults []string) { v.metrics.release(vaults) }

// clientOptions returns the options of the SDK's clients of one vault.
func (v *Vaults) clientOptions(vault string) policy.ClientOptions {
	return policy.ClientOptions{
		APIVersion:      v.options.APIVersion,
		Retry:           azure.Retries(maxRetryDelay, v.options.TryTimeout),
		Telemetry:       policy.TelemetryOptions{ApplicationID: azure.ApplicationID},
		PerCallPolicies: []policy.Policy{pageAt{vault}},
		Transport:       &sender{vaults: v, vault: vault},
	}
}

// sender answers the SDK's first request, which has no token and only asks for the challenge, if the challenge is
// known. The SDK sees only challenges that this package has written.
type sender struct {
	vaults *Vaults
	vault  string
}

// Do implements policy.Transporter.
func (s *sender) Do(req *http.Request) (*http.Response, error) {
	// The vault's link to the next page of a list may have a port; Azure's links have one.
	if "https://"+strings.TrimSuffix(req.URL.Host, ":443") != s.vault {
		return nil, azure.Final(azure.ErrStrange)
	}
	if req.Header.Get("Authorization") == "" {
		if tenant, ok := s.vaults.Tenant(s.vault); ok {
			return s.vaults.challengeResponse(req, tenant), nil
		}
	}
	began := time.Now()
	resp, err := s.vaults.options.Sender.Do(req)
	if azure.Sent(err) {
		s.vaults.metrics.request(s.vault, req, resp, time.Since(began))
	}
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	s.vaults.rewrite(s.vault, req, resp)
	return resp, nil
}
