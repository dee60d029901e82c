package soak_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
)

// sampled is the resources of a daemon at one moment.
type sampled struct {
	at          time.Time
	incarnation int
	rss         float64 // MiB
	descriptors float64
	goroutines  float64
	mounts      float64 // on the whole node
	volumes     float64 // published, or being published or unpublished
	calm        bool    // without a fault or its consequences
}

// sample samples the process periodically.
func (s *testNode) sample(ctx context.Context) {
	for pause(ctx, s.form.sample) {
		s.link.RLock()
		now := s.takeSample(ctx)
		s.link.RUnlock()
		if ctx.Err() != nil {
			return
		}
		s.mu.Lock()
		s.samples = append(s.samples, now)
		s.mu.Unlock()
	}
}

// takeSample needs a daemon that runs.
func (s *testNode) takeSample(ctx context.Context) sampled {
	now := sampled{at: time.Now(), incarnation: s.incarnation, volumes: s.volumes()}
	ended, disturbed := s.faultLog.of(append(slices.Clone(fullVaults), bulk))
	now.calm = !disturbed && (s.form.aged || now.at.Sub(ended) > 20*time.Second)
	if open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.n.PID())); err != nil {
		s.problem("%v", err)
	} else {
		now.descriptors = float64(len(open))
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.n.PID()))
	if err != nil {
		s.problem("%v", err)
	}
	now.rss = number(string(status), "VmRSS:") / 1024
	_, metrics, err := s.n.Get(ctx, "/metrics")
	if err != nil && ctx.Err() == nil {
		s.problem("metrics: %v", err)
	}
	now.goroutines = number(metrics, "go_goroutines ")
	mounts, err := kubelet.Mounts(s.n.Dir)
	if err != nil {
		s.problem("%v", err)
	}
	now.mounts = float64(len(mounts))
	now.volumes = max(now.volumes, s.volumes()) // they change meanwhile
	return now
}

// volumes counts the volumes that may have a mount.
func (s *testNode) volumes() (n float64) {
	for _, slot := range s.slots {
		slot.mu.Lock()
		if slot.phase != unpublished {
			n++
		}
		slot.mu.Unlock()
	}
	return n
}

// number returns the number in the line that begins with the key; 0 if there is none.
func number(text, key string) float64 {
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), key); ok {
			n, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return n
		}
	}
	return 0
}

// trend fits a straight line and returns its rise over all x. Fewer than three points have no trend.
func trend(points [][2]float64) (rise float64) {
	if len(points) < 3 {
		return 0
	}
	var sx, sy, sxx, sxy float64
	for _, p := range points {
		sx, sy, sxx, sxy = sx+p[0], sy+p[1], sxx+p[0]*p[0], sxy+p[0]*p[1]
	}
	n := float64(len(points))
	below := n*sxx - sx*sx
	if below == 0 {
		return 0
	}
	return (n*sxy - sx*sy) / below * (points[len(points)-1][0] - points[0][0])
}

// quantity is a measured value that must not grow.
type quantity struct {
	name, file, unit string
	of               func(sampled) float64
	most             float64 // allowed rise over the whole run
	left             float64 // allowed difference to the start when all volumes are removed, for connections that stay open
}

func quantities() []quantity {
	return []quantity{
		{"memory (RSS)", "memory", "MiB", func(s sampled) float64 { return s.rss }, 4, 24},
		{"open descriptors", "descriptors", "", func(s sampled) float64 { return s.descriptors }, 8, 20},
		{"goroutines", "goroutines", "", func(s sampled) float64 { return s.goroutines }, 24, 30},
		{"mounts beyond those of volumes", "mounts", "", func(s sampled) float64 { return max(0, s.mounts-s.volumes) }, 0.5, 0},
	}
}

// points are the samples of a run, in minutes after began, without the first quarter, in which caches and pools fill, and without those
// during faults, when many calls wait.
func (s *testNode) points(q quantity, began time.Time) [][2]float64 {
	var points [][2]float64
	for _, sample := range s.samples[len(s.samples)/4:] {
		if !sample.calm {
			continue
		}
		points = append(points, [2]float64{sample.at.Sub(began).Minutes(), q.of(sample)})
	}
	return points
}

// lastOfEach is one point for each killed daemon: its last sample without faults.
func (s *testNode) lastOfEach(q quantity) [][2]float64 {
	var points [][2]float64
	for _, sample := range s.samples {
		life := float64(sample.incarnation)
		switch {
		case !sample.calm:
		case len(points) > 0 && points[len(points)-1][0] == life:
			points[len(points)-1][1] = q.of(sample)
		default:
			points = append(points, [2]float64{life, q.of(sample)})
		}
	}
	return points
}
