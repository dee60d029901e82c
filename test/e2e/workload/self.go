package main

import (
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Self is what a process knows about itself.
type Self struct {
	PID         int
	Environment []string
	Hangups     []float64 // for each SIGHUP, the seconds since the volume was replaced
}

// hangups records each SIGHUP.
type hangups struct {
	sync.Mutex
	after []float64
}

// listen compares the time of each signal with that of the link ..data, which is made anew just before it replaces the one before.
func (h *hangups) listen(volume string) {
	received := make(chan os.Signal, 16)
	signal.Notify(received, syscall.SIGHUP)
	go func() {
		for range received {
			info, err := os.Lstat(filepath.Join(volume, "..data"))
			if err != nil {
				continue
			}
			h.Lock()
			h.after = append(h.after, time.Since(info.ModTime()).Seconds())
			h.Unlock()
		}
	}()
}

func (h *hangups) seen() []float64 {
	h.Lock()
	defer h.Unlock()
	return append([]float64{}, h.after...)
}
