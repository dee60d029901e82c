package soak_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/aging"
	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
)

// phase is what the kubelet knows of a volume.
type phase int

const (
	gone    phase = iota // nothing was asked for, or everything was taken back
	coming               // a first publish is under way, or failed
	there                // it was answered OK
	leaving              // an unpublish is under way, or failed
)

// slot is a place for one pod at a time; when one goes, the next comes.
type slot struct {
	site   *site
	number int
	lives  int
	token  string // of this pod's service account

	mu     sync.Mutex
	phase  phase
	shape  shape
	files  []output
	vaults []string
	volume kubelet.Volume
	target string
	since  time.Time // when it was published

	set    string  // name of the folder that was read last
	sights []sight // what it shows
	shown  []int   // the generations of the sights, -1 for what is not there
}

func newSlot(s *site, number int) *slot { return &slot{site: s, number: number} }

// run lets pods come and go until ctx ends.
func (s *slot) run(ctx context.Context) {
	if !pause(ctx, rand.N(s.site.form.period)) {
		return
	}
	for ctx.Err() == nil {
		s.next()
		if s.publish(ctx) {
			s.live(ctx)
		}
		s.unpublish(ctx)
	}
}

// next is another pod, with another kind of volume.
func (s *slot) next() {
	all := shapes()
	shape := all[rand.N(len(all))]
	if shape.group && mountns.InUserNamespace() {
		shape.group = false // no group but its own exists there
	}
	vault := fullVaults[rand.N(len(fullVaults))]
	s.lives++
	k, _ := s.site.kubelet() // not under s.mu, for whoever kills the daemon holds the one and wants the other
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = ""
	s.shape, s.files, s.volume = shape, shape.files(vault), shape.volume(fmt.Sprintf("v%d-%d", s.number, s.lives), vault)
	s.vaults = vaultsOf(s.files)
	s.target = k.Target(s.volume)
	s.set, s.sights, s.shown = "", nil, nil
	s.phase = coming
}

func (s *slot) enter(p phase) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase = p
	if p == there {
		s.since = time.Now()
	}
}

// call is one call of the kubelet, with its patience of two minutes. cut says that the daemon ended meanwhile.
func (s *slot) call(ctx context.Context, do func(*kubelet.Kubelet, context.Context) error) (cut bool, err error) {
	k, before := s.site.kubelet()
	mint := k.Token
	k.Token = func(ctx context.Context, v kubelet.Volume) (string, error) { // the kubelet keeps tokens, too
		if s.token == "" {
			var err error
			if s.token, err = mint(ctx, v); err != nil {
				return "", err
			}
		}
		return s.token, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	s.site.inFlight.Add(1)
	err = do(&k, ctx)
	s.site.inFlight.Add(-1)
	if err == nil {
		return false, nil
	}
	if _, now := s.site.kubelet(); now != before {
		s.site.cut.Add(1)
		return true, err
	}
	return false, err
}

// publish calls until the volume is there, or nobody wants it any more.
func (s *slot) publish(ctx context.Context) bool {
	wait := 500 * time.Millisecond
	for {
		began := time.Now()
		cut, err := s.call(ctx, func(k *kubelet.Kubelet, ctx context.Context) error { return k.Publish(ctx, s.volume) })
		if err == nil {
			s.site.published.Add(1)
			s.enter(there)
			s.inspect(false)
			return true
		}
		if !cut {
			s.refused(began, err)
		}
		if !pause(ctx, wait) {
			return false
		}
		wait = min(2*wait, s.site.form.period)
	}
}

// refused judges a first publish that failed: only a fault is an excuse, and nothing may be left.
func (s *slot) refused(began time.Time, err error) {
	s.site.refused.Add(1)
	if last, now := s.site.trouble.of(s.vaults); !now && began.Sub(last) > s.site.form.bound {
		s.site.problem("%s, %s: a first publish failed without a fault: %v", s.volume.Name, s.shape.name, err)
	}
	if _, err := os.Lstat(s.target); !errors.Is(err, fs.ErrNotExist) {
		s.site.problem("%s: a refused publish left its target (%v)", s.volume.Name, err)
	}
}

// live calls for the volume as long as the pod lives.
func (s *slot) live(ctx context.Context) {
	f := s.site.form
	end := time.Now().Add(f.life/2 + rand.N(f.life))
	for s.site.frozen.Load() || time.Now().Before(end) {
		if !pause(ctx, f.period*4/5+rand.N(f.period*2/5)) {
			return
		}
		if f.aged {
			_ = aging.Set(s.target, time.Now().Add(-interval-time.Second))
		}
		cut, err := s.call(ctx, func(k *kubelet.Kubelet, ctx context.Context) error { return k.Publish(ctx, s.volume) })
		switch {
		case err == nil:
			s.site.refreshed.Add(1)
			s.inspect(false)
		case !cut:
			s.site.problem("%s, %s: a set that is there was refused: %v", s.volume.Name, s.shape.name, err)
		case status.Code(err) != codes.Unavailable && status.Code(err) != codes.Canceled:
			s.site.problem("%s: a call that ended with the daemon: %v", s.volume.Name, err)
		}
	}
}

// unpublish calls until the volume is gone. No fault of any cloud is an excuse.
func (s *slot) unpublish(ctx context.Context) {
	s.enter(leaving)
	for {
		cut, err := s.call(ctx, func(k *kubelet.Kubelet, ctx context.Context) error { return k.Unpublish(ctx, s.volume) })
		if err == nil {
			break
		}
		if !cut {
			s.site.problem("%s: unpublish: %v", s.volume.Name, err)
			return
		}
	}
	s.enter(gone)
	s.site.removed.Add(1)
	k, _ := s.site.kubelet()
	if _, err := os.Lstat(k.PodDir(s.volume)); !errors.Is(err, fs.ErrNotExist) {
		s.site.problem("%s: the pod's folder is still there: %v", s.volume.Name, err)
	}
}

// newest says whether the volume is there and shows the newest of everything.
func (s *slot) newest() bool {
	s.inspect(false)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != there || s.sights == nil {
		return false
	}
	for _, sight := range s.sights {
		if _, outdated, err := s.site.books[sight.vault].find(sight.object, sight.content); err != nil || !outdated.IsZero() {
			return false
		}
	}
	return true
}

// inspect looks at the volume while the daemon runs, or, with fresh, reads its set again even if it is known.
func (s *slot) inspect(fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != coming && s.phase != there {
		return // an unpublish takes things away in its own order
	}
	s.site.looks.Add(1)
	err := s.read(fresh)
	for range 10 { // replaced while we read
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
		if link, _ := os.Readlink(filepath.Join(s.target, "..data")); link == s.set {
			break
		}
		err = s.read(fresh)
	}
	switch {
	case err == nil:
	case s.phase == coming && errors.Is(err, fs.ErrNotExist) && !s.mounted():
	default:
		s.site.problem("%s, %s: %v", s.volume.Name, s.shape.name, err)
	}
}

// inspectDead looks at the volume when there is no daemon. It gives the target if a volume is mounted there.
func (s *slot) inspectDead(mounted map[string]int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	times := mounted[s.target]
	switch {
	case s.phase == gone && times > 0, times > 1:
		s.site.problem("after kill -9: %s is mounted %d times in phase %d", s.volume.Name, times, s.phase)
	case s.phase == there && times == 0:
		s.site.problem("after kill -9: %s is not mounted any more", s.volume.Name)
	case times == 1:
		if err := s.read(true); err != nil {
			s.site.problem("after kill -9: %s, %s, phase %d: %v", s.volume.Name, s.shape.name, s.phase, err)
		}
	}
	if times > 0 {
		return s.target
	}
	return ""
}

// mounted says whether a file system of its own stands at the target and shows no set. The caller holds s.mu.
func (s *slot) mounted() bool {
	var at, above syscall.Stat_t
	if syscall.Stat(s.target, &at) != nil || syscall.Stat(filepath.Dir(s.target), &above) != nil || at.Dev == above.Dev {
		return false
	}
	_, err := os.Readlink(filepath.Join(s.target, "..data"))
	return err != nil
}

// read reads what the volume shows and judges it. The caller holds s.mu.
func (s *slot) read(fresh bool) error {
	set, err := os.Readlink(filepath.Join(s.target, "..data"))
	if err != nil {
		return err
	}
	folder := filepath.Join(s.target, set)
	info, err := os.Lstat(folder)
	if err != nil {
		s.set = set
		return err
	}
	if set == s.set && s.sights != nil && !fresh {
		return s.judge(info.ModTime())
	}
	s.set = set
	sights, err := look(folder, s.files, s.shape.group)
	if err != nil {
		return err
	}
	s.site.sets.Add(1)
	s.sights = sights
	return s.judge(info.ModTime())
}
