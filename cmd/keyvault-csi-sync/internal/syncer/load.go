package syncer

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/api"
	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/config"
	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/fileset"
	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/secret"
)

// load reads the configuration and the files if they have changed, and makes due what differs. It reports whether the list of Secrets
// has changed.
func (s *Syncer) load(ctx context.Context) (listChanged bool) {
	listChanged = s.loadConfig()
	version, err := fileset.Version(s.Volume)
	if err == nil && version == s.set.Version && !listChanged {
		s.refreshWaiting()
		return false
	}
	set, err := fileset.Read(s.Volume, s.paths(), limit)
	if err != nil {
		if s.missing != err.Error() {
			s.missing = err.Error()
			s.Log.Error("the files cannot be read; the Secrets stay as they are", "error", err.Error())
		}
		s.set.Version = "" // read again at the next beat
		return listChanged
	}
	if set.Version != s.set.Version {
		s.Log.Info("read the files", "version", set.Version, "fetched", set.Time.UTC())
	}
	s.set, s.missing = set, ""
	s.build(ctx)
	return listChanged
}

// loadConfig reads the configuration. If it is not valid, the last one stays.
func (s *Syncer) loadConfig() (changed bool) {
	text, err := s.ReadConfig()
	if err == nil && s.loaded && string(text) == s.text {
		s.broken = ""
		return false
	}
	var c config.Config
	if err == nil {
		c, err = config.Parse(text)
	}
	if err != nil {
		if s.broken != err.Error() {
			s.broken = err.Error()
			s.Log.Error("the configuration cannot be used; the last one stays in force", "error", err.Error())
		}
		return false
	}
	s.config, s.loaded, s.text, s.broken = c, true, string(text), ""
	wanted := map[string]*entry{}
	for _, spec := range c.Secrets {
		wanted[spec.Name] = s.entries[spec.Name]
		if wanted[spec.Name] == nil {
			wanted[spec.Name] = &entry{state: Pending}
		}
	}
	s.entries = wanted
	s.prune, s.pruneAt = c.Prune, s.Clock.Now()
	s.Log.Info("read the configuration", "secrets", len(c.Secrets), "prune", c.Prune)
	return true
}

// build makes due each Secret whose values or entry have changed.
func (s *Syncer) build(ctx context.Context) {
	for _, spec := range s.config.Secrets {
		e := s.entries[spec.Name]
		w, err := secret.Build(spec, s.Name, s.set)
		if err != nil {
			e.valid, e.state = false, Invalid
			s.report(ctx, e, spec.Name, "InvalidValue", err.Error()+"; the Secret stays as it is")
			continue
		}
		if !e.valid || !e.wanted.Same(w) {
			e.retry.reset()
			e.fresh = true
			e.look(s.Clock.Now())
		}
		e.wanted, e.valid = w, true
	}
}

// refreshWaiting gives the Secrets the time of the files, which a refresh without a change sets. One that holds newer values waits for it.
func (s *Syncer) refreshWaiting() {
	set, err := fileset.Read(s.Volume, nil, 0)
	if err != nil || set.Version != s.set.Version {
		return
	}
	s.set.Time = set.Time
	for _, e := range s.entries {
		e.wanted.Version = set.Time
	}
}

// paths are the files of all Secrets.
func (s *Syncer) paths() (paths []string) {
	for _, spec := range s.config.Secrets {
		paths = append(paths, slices.Sorted(maps.Values(spec.Data))...)
	}
	return paths
}

// startWatches starts a watch for each Secret that has none, and ends the watches of all others.
func (s *Syncer) startWatches(ctx context.Context, running *sync.WaitGroup) {
	for name, stop := range s.watches {
		if s.entries[name] == nil {
			stop()
			delete(s.watches, name)
		}
	}
	for name := range s.entries {
		if s.watches[name] != nil {
			continue
		}
		watching, stop := context.WithCancel(ctx)
		s.watches[name] = stop
		running.Go(func() { s.watch(watching, name) })
	}
}

// watch watches a Secret until ctx ends. A watch that follows another goes on where that ended, so it costs no further request.
func (s *Syncer) watch(ctx context.Context, name string) {
	var pause backoff
	since := "" // the resource version up to which nothing was missed
	why := ""   // the failure that was reported last
	for ctx.Err() == nil {
		err := s.API.Watch(ctx, name, since, func(c api.Change) {
			pause.reset()
			if since = c.ResourceVersion; c.Bookmark {
				return
			}
			select {
			case s.changes <- c:
			case <-ctx.Done():
			}
		})
		if errors.Is(err, api.ErrExpired) {
			since = ""
		}
		longest := longestAway
		switch {
		case isRefused(err): // by the Role
			longest = longestPause
			why = s.reportWatch(name, why, err)
		case errors.Is(err, api.ErrAway) && pause.pause >= lasting && ctx.Err() == nil:
			s.watchFails(err.Error())
		case err == nil:
			s.watchFails("")
		}
		timer := s.Clock.NewTimer(pause.next(longest))
		select {
		case <-ctx.Done():
		case <-timer.C():
		}
		timer.Stop()
	}
}

// reportWatch logs why a Secret cannot be watched, unless that was logged last. It is not a part of watch, which has a stack for each Secret.
//
//go:noinline
func (s *Syncer) reportWatch(name, last string, err error) string {
	text := err.Error()
	if text != last {
		s.Log.Warn("a Secret cannot be watched; that it was deleted or changed is noticed when it can", "secret", name, "error", text)
	}
	return text
}

// watchFails reports once that the API server does not answer the watches, which have the same error for all Secrets. An empty text means
// that it answers again.
//
//go:noinline
func (s *Syncer) watchFails(text string) {
	s.mu.Lock()
	changed := s.watchWhy != text
	s.watchWhy = text
	s.mu.Unlock()
	if changed && text != "" {
		s.Log.Warn("the Secrets cannot be watched; that one was deleted or changed is noticed when they can", "error", text)
	}
}
