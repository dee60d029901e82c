package fileset

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/fsnotify/fsnotify"
)

// Watch sends on changed whenever ..data of one of the volumes may have changed, until ctx ends. changed needs a capacity of one:
// an element that is not read yet stands for all later changes.
func Watch(ctx context.Context, changed chan<- struct{}, volumes ...string) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return explain(err)
	}
	for _, volume := range volumes {
		if err := watcher.Add(volume); err != nil {
			_ = watcher.Close()
			return fmt.Errorf("%s: %w", volume, explain(err))
		}
	}
	go func() {
		defer func() { _ = watcher.Close() }()
		for {
			select {
			case <-ctx.Done():
				return
			case event, ok := <-watcher.Events:
				if !ok {
					return
				}
				// A refresh without a change sets the time of the folder, which is no news.
				if event.Op == fsnotify.Chmod {
					continue
				}
			case _, ok := <-watcher.Errors: // events were lost
				if !ok {
					return
				}
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}()
	return nil
}

// explain names the limit of the node that an error of inotify is about.
func explain(err error) error {
	switch {
	case errors.Is(err, syscall.EMFILE):
		return fmt.Errorf("inotify: %w; the node's limit fs.inotify.max_user_instances may be reached", err)
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("inotify: %w; the node's limit fs.inotify.max_user_watches is reached", err)
	}
	return fmt.Errorf("inotify: %w", err)
}
