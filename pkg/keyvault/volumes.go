package keyvault

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/cache"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/login"
)

// maxExpiries bounds the certificates that have a series. It also bounds those kept per volume while all volumes
// together have more than maxCertificates, because pods choose how many there are. The ones that end first are kept.
const (
	maxExpiries     = 200
	maxCertificates = 32 << 10
)

// mountTime is how long the attempts of one first mount may use what the attempts before them have read.
const mountTime = 10 * time.Minute

// volumes are the mounted volumes with their metrics. It is the collector of the certificates' metrics.
type volumes struct {
	mu           sync.Mutex
	known        map[string]mounted // by volume id
	begun        map[string]attempt // the first mounts that are not complete yet
	certificates int                // of all volumes

	end, count, gaps *prometheus.Desc
}

// attempt is the first one of a first mount.
type attempt struct {
	at   time.Time
	keep time.Duration // how long the next attempts may use what was read since
}

// mounted is one volume.
type mounted struct {
	owner        login.Owner
	identity     login.Key // of the owner, in the tenant of the request
	vaults       []string
	certificates []certificateEnd
	newest       time.Time // when the newest of its objects was read
}

type certificateEnd struct {
	vault, name string
	notAfter    time.Time
	gap         bool // in its chain
}

func newVolumes() *volumes {
	return &volumes{
		known: map[string]mounted{}, begun: map[string]attempt{},
		end: prometheus.NewDesc("keyvault_csi_certificate_expiry_timestamp_seconds",
			"End of the validity of the certificates that volumes hold; only of the 200 that end first.", []string{"vault", "name"}, nil),
		count: prometheus.NewDesc("keyvault_csi_certificates", "Certificates that volumes hold.", nil, nil),
		gaps: prometheus.NewDesc("keyvault_csi_incomplete_chains",
			"Certificates that volumes hold with a chain in which an intermediate is missing.", nil, nil),
	}
}

// replace stores a volume, and returns the state that it replaces.
func (v *volumes) replace(id string, now mounted) (before mounted, known bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	before, known = v.known[id]
	v.certificates -= len(before.certificates)
	if v.certificates+len(now.certificates) > maxCertificates {
		now.certificates = soonest(now.certificates)
	}
	v.certificates += len(now.certificates)
	v.known[id] = now
	delete(v.begun, id)
	return before, known
}

// remove forgets a volume, and returns its state.
func (v *volumes) remove(id string) (before mounted, known bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	before, known = v.known[id]
	v.certificates -= len(before.certificates)
	delete(v.known, id)
	return before, known
}

// begin returns when the first mount of a volume was first tried; zero if this is the first attempt. The time for its attempts is longer
// if a vault of the volume limits the requests of the node.
func (v *volumes) begin(id string, now time.Time, limited bool) time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	begun, ok := v.begun[id]
	if limited {
		begun.keep = cache.LateTime
	}
	if ok && now.Sub(begun.at).Abs() < begun.keep {
		v.begun[id] = begun
		return begun.at
	}
	v.begun[id] = attempt{now, max(mountTime, begun.keep)}
	return time.Time{}
}

// tidy forgets the first mounts that were given up.
func (v *volumes) tidy(now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	maps.DeleteFunc(v.begun, func(_ string, begun attempt) bool { return now.Sub(begun.at).Abs() >= begun.keep })
}

// newest returns when the newest object of a volume was read; zero if the volume is not known.
func (v *volumes) newest(id string) time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.known[id].newest
}

// soonest returns the certificates that end first.
func soonest(all []certificateEnd) []certificateEnd {
	slices.SortStableFunc(all, func(a, b certificateEnd) int { return a.notAfter.Compare(b.notAfter) })
	return slices.Clone(all[:min(len(all), maxExpiries)])
}

// distinct returns the certificates of all volumes, each once, with the earliest end of its validity.
func (v *volumes) distinct() []certificateEnd {
	v.mu.Lock()
	var all []certificateEnd
	for _, m := range v.known {
		all = append(all, m.certificates...)
	}
	v.mu.Unlock()
	slices.SortFunc(all, func(a, b certificateEnd) int {
		return cmp.Or(strings.Compare(a.vault, b.vault), strings.Compare(a.name, b.name), a.notAfter.Compare(b.notAfter))
	})
	var distinct []certificateEnd
	for _, c := range all {
		if n := len(distinct); n > 0 && distinct[n-1].vault == c.vault && distinct[n-1].name == c.name {
			distinct[n-1].gap = distinct[n-1].gap || c.gap
			continue
		}
		distinct = append(distinct, c)
	}
	return distinct
}

// Describe implements prometheus.Collector.
func (v *volumes) Describe(descs chan<- *prometheus.Desc) {
	descs <- v.end
	descs <- v.count
	descs <- v.gaps
}

// Collect implements prometheus.Collector.
func (v *volumes) Collect(metrics chan<- prometheus.Metric) {
	all := v.distinct()
	metrics <- prometheus.MustNewConstMetric(v.count, prometheus.GaugeValue, float64(len(all)))
	gaps := 0
	for _, c := range all {
		if c.gap {
			gaps++
		}
	}
	metrics <- prometheus.MustNewConstMetric(v.gaps, prometheus.GaugeValue, float64(gaps))
	for _, c := range soonest(all) {
		metrics <- prometheus.MustNewConstMetric(v.end, prometheus.GaugeValue, float64(c.notAfter.Unix()), c.vault, c.name)
	}
}

// hold stores the state of a volume that has an id.
func (c *Client) hold(f *fetch, reads []*read) {
	if f.Volume == "" {
		return
	}
	now := mounted{owner: f.owner, identity: f.key, vaults: f.vaults}
	for _, r := range reads {
		if r.at.After(now.newest) {
			now.newest = r.at
		}
		if !r.notAfter.IsZero() {
			now.certificates = append(now.certificates, certificateEnd{r.request.Vault, r.request.Name, r.notAfter, len(r.gaps) > 0})
		}
	}
	c.logins.Hold(now.owner)
	c.vaults.Use(now.vaults)
	c.release(c.volumes.replace(f.Volume, now))
}

// Forget drops the state of a volume that is unmounted. With its last volume, the proof of a pod ends.
func (c *Client) Forget(volume string) { c.release(c.volumes.remove(volume)) }

// release undoes hold.
func (c *Client) release(before mounted, known bool) {
	if !known {
		return
	}
	c.vaults.Release(before.vaults)
	if last := c.logins.Release(before.owner); last {
		c.cache.Depart(func(identity any) bool { return sameIdentity(identity, before.identity) })
	}
}
