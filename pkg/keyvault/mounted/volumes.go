package mounted

import (
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/login"
)

// mountTime is how long the attempts of one first mount may use what the attempts before them have read.
const mountTime = 10 * time.Minute

// Volumes are the volumes of a node by their ids. They are the collector of the metrics of their certificates.
type Volumes struct {
	mu           sync.Mutex
	known        map[string]Volume
	begun        map[string]attempt // the first mounts that are not complete yet
	certificates int                // of all volumes

	end, count, gaps *prometheus.Desc
}

// attempt is the first one of a first mount.
type attempt struct {
	at   time.Time
	keep time.Duration // how long the next attempts may use what was read since
}

// Volume is what stays of a volume while it is mounted.
type Volume struct {
	Owner        login.Owner
	Vaults       []string
	Certificates []Certificate
	Newest       time.Time // when the newest of its objects was read
}

// New makes the volumes of a node that has none.
func New() *Volumes {
	return &Volumes{
		known: map[string]Volume{}, begun: map[string]attempt{},
		end: prometheus.NewDesc("keyvault_csi_certificate_expiry_timestamp_seconds",
			"End of the validity of the certificates that volumes hold; only of the 200 that end first.", []string{"vault", "name"}, nil),
		count: prometheus.NewDesc("keyvault_csi_certificates", "Certificates that volumes hold.", nil, nil),
		gaps: prometheus.NewDesc("keyvault_csi_incomplete_chains",
			"Certificates that volumes hold with a chain in which an intermediate is missing.", nil, nil),
	}
}

// Replace stores a volume, and returns the state that it replaces.
func (v *Volumes) Replace(id string, now Volume) (before Volume, known bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	before, known = v.known[id]
	v.certificates -= len(before.Certificates)
	if v.certificates+len(now.Certificates) > maxCertificates {
		now.Certificates = soonest(now.Certificates)
	}
	v.certificates += len(now.Certificates)
	v.known[id] = now
	delete(v.begun, id)
	return before, known
}

// Remove forgets a volume, and returns its state.
func (v *Volumes) Remove(id string) (before Volume, known bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	before, known = v.known[id]
	v.certificates -= len(before.Certificates)
	delete(v.known, id)
	return before, known
}

// Begin returns when the first mount of a volume was first tried; zero if this is the first attempt. Later attempts
// belong to the same first mount for mountTime, and for longer while a vault limits the requests of the node.
func (v *Volumes) Begin(id string, now time.Time, atLeast time.Duration) time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	begun, ok := v.begun[id]
	begun.keep = max(begun.keep, atLeast)
	if ok && now.Sub(begun.at).Abs() < begun.keep {
		v.begun[id] = begun
		return begun.at
	}
	v.begun[id] = attempt{now, max(mountTime, begun.keep)}
	return time.Time{}
}

// Tidy forgets the first mounts that were given up.
func (v *Volumes) Tidy(now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	maps.DeleteFunc(v.begun, func(_ string, begun attempt) bool { return now.Sub(begun.at).Abs() >= begun.keep })
}

// Newest returns when the newest object of a volume was read; zero if the volume is not known.
func (v *Volumes) Newest(id string) time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.known[id].Newest
}
