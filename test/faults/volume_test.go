package faults_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
)

// contains reports whether a file of the volume has the content. Every volume contains the empty content.
func (c *cell) contains(content string) bool {
	if content == "" {
		return true
	}
	return slices.ContainsFunc(c.tree(), func(line string) bool { return strings.HasSuffix(line, " "+content) })
}

// remove unpublishes the volume, and checks that nothing is left.
func (c *cell) remove() {
	if err := c.fx.Unpublish(c.t.Context(), c.volume); err != nil {
		c.errorf("unpublish: %v", err)
	}
	c.checkAbsent()
}

// health is "REASON: TEXT" for each entry of the volume's health.
func (c *cell) health() (said []string) {
	response, err := c.fx.Driver.NodeGetVolumeHealth(c.t.Context(), &csi.NodeGetVolumeHealthRequest{
		VolumeId: c.volume.ID(), VolumePublishPath: c.fx.Target(c.volume),
	})
	if err != nil {
		c.errorf("health: %v", err)
	}
	for _, entry := range response.GetVolumeHealth().GetHealthStatuses() {
		said = append(said, entry.GetReason()+": "+entry.GetMessage())
	}
	return said
}

// tree is everything in the volume, the driver's own folders and links included: "path mode content".
func (c *cell) tree() (lines []string) {
	root := c.fx.Target(c.volume)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		line := rel + " " + info.Mode().String()
		switch {
		case entry.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " " + target
		case entry.Type().IsRegular():
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += " " + string(content)
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		c.errorf("the volume cannot be read: %v", err)
	}
	return lines
}

// slowest is the longest of many durations.
type slowest struct {
	mu  sync.Mutex
	max time.Duration
}

func (s *slowest) add(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.max = max(s.max, d)
}

func (s *slowest) get() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.max.Round(time.Millisecond)
}
