package main

import (
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/pkg/driver"
	"github.com/keyvault-csi/keyvault-csi/pkg/policy"
)

// newPolicy follows a file, or is the default without one. A file that cannot be used does not stop the driver, because
// unpublishing needs no policy. The metrics exist without a file too, so that an alert can be written before there is one.
func newPolicy(file string, registry *prometheus.Registry, logger logr.Logger) (rules driver.Policy) {
	rules, failures, latest := policy.Default(), func() int { return 0 }, func() time.Time { return time.Time{} }
	if file != "" {
		changing := changingFile{name: file}
		f := policy.Open(file, changing.read, func(problem error, held bool) {
			switch {
			case problem == nil:
				logger.Info("policy reloaded", "file", file)
			case held:
				logger.Error(problem, "the policy file cannot be used; the last good rules hold", "file", file)
			default:
				logger.Error(problem, "the policy file cannot be used; everything is refused until it can", "file", file)
			}
		})
		rules, failures, latest = f, f.Failures, f.LatestRefreshAfter
	}
	registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "keyvault_csi_policy_reload_errors_total",
		Help: "How often the policy file was invalid, at the start or later.",
	}, func() float64 { return float64(failures()) }), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "keyvault_csi_refresh_after_timestamp_seconds",
		Help: "The latest refreshAfter of the policy in force; 0 if it has none.",
	}, func() float64 {
		if t := latest(); !t.IsZero() {
			return float64(t.UnixMilli()) / 1e3
		}
		return 0
	}))
	return rules
}

// changingFile is a file that is read for each call of the kubelet, and changes rarely. To look whether it has changed takes a
// sixth of the time of reading it. It must not be used concurrently.
type changingFile struct {
	name    string
	content []byte
	version fileVersion // of the content; zero if the content must not be used again
}

// fileVersion changes with each replacement of a file, and with each write after settling.
type fileVersion struct {
	dev, ino uint64
	size     int64
	changed  unix.Timespec
}

// settling is how old the last change must be before the content is used again. Two writes within the precision of the file
// system's clock have the same time.
const settling = 2 * time.Second

func (f *changingFile) read() ([]byte, error) {
	var stat unix.Stat_t
	err := unix.Stat(f.name, &stat)
	now := fileVersion{stat.Dev, stat.Ino, stat.Size, stat.Ctim}
	if err == nil && f.version != (fileVersion{}) && now == f.version {
		return f.content, nil
	}
	f.version = fileVersion{}
	age := time.Since(time.Unix(stat.Ctim.Unix()))
	if f.content, err = readFile(f.name); err == nil && age > settling {
		f.version = now
	}
	return f.content, err
}
