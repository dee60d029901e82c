package mounted

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxExpiries bounds the certificates that have a series. It also bounds those kept per volume while all volumes
// together have more than maxCertificates, because pods choose how many there are. The ones that end first are kept.
const (
	maxExpiries     = 200
	maxCertificates = 32 << 10
)

// Certificate is one that a volume holds.
type Certificate struct {
	Vault, Name string
	NotAfter    time.Time
	Gap         bool // in its chain
}

// soonest returns the certificates that end first.
func soonest(all []Certificate) []Certificate {
	slices.SortStableFunc(all, func(a, b Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
	return slices.Clone(all[:min(len(all), maxExpiries)])
}

// distinct returns the certificates of all volumes, each once, with the earliest end of its validity.
func (v *Volumes) distinct() []Certificate {
	v.mu.Lock()
	var all []Certificate
	for _, m := range v.known {
		all = append(all, m.Certificates...)
	}
	v.mu.Unlock()
	slices.SortFunc(all, func(a, b Certificate) int {
		return cmp.Or(strings.Compare(a.Vault, b.Vault), strings.Compare(a.Name, b.Name), a.NotAfter.Compare(b.NotAfter))
	})
	var distinct []Certificate
	for _, c := range all {
		if n := len(distinct); n > 0 && distinct[n-1].Vault == c.Vault && distinct[n-1].Name == c.Name {
			distinct[n-1].Gap = distinct[n-1].Gap || c.Gap
			continue
		}
		distinct = append(distinct, c)
	}
	return distinct
}

// Describe implements prometheus.Collector.
func (v *Volumes) Describe(descs chan<- *prometheus.Desc) {
	descs <- v.end
	descs <- v.count
	descs <- v.gaps
}

// Collect implements prometheus.Collector.
func (v *Volumes) Collect(metrics chan<- prometheus.Metric) {
	all := v.distinct()
	metrics <- prometheus.MustNewConstMetric(v.count, prometheus.GaugeValue, float64(len(all)))
	gaps := 0
	for _, c := range all {
		if c.Gap {
			gaps++
		}
	}
	metrics <- prometheus.MustNewConstMetric(v.gaps, prometheus.GaugeValue, float64(gaps))
	for _, c := range soonest(all) {
		metrics <- prometheus.MustNewConstMetric(v.end, prometheus.GaugeValue, float64(c.NotAfter.Unix()), c.Vault, c.Name)
	}
}
