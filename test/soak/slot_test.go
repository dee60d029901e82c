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
	"github.com/keyvault-csi/keyvault-csi/internal/suite"
)

// phase is the kubelet's state of a volume.
type phase int

const (
	unpublished  phase = iota // before a publish, or after an unpublish
	publishing                // a first publish runs, or has failed
	published                 // a publish has answered OK
	unpublishing              // an unpublish runs, or has failed
)

// slot has one pod at a time. A new pod follows each pod.
type slot struct {
	testNode *testNode
	number   int
	lives    int
	token    string // of this pod's service account

	mu     sync.Mutex
	phase  phase
	spec   spec
	files  []output
	vaults []string
	volume kubelet.Volume
	target string
	since  time.Time // when it was published

	set     string        // name of the folder that was read last
	objects []shownObject // of the set
	shown   []int         // the generations of the objects, -1 for an object that is absent
}

func newSlot(s *testNode, number int) *slot { return &slot{testNode: s, number: number} }

// run creates and deletes pods until ctx ends.
func (s *slot) run(ctx context.Context) {
	if !pause(ctx, rand.N(s.testNode.form.period)) {
		return
	}
	for ctx.Err() == nil {
		s.next()
		if s.publish(ctx) {
			s.refresh(ctx)
		}
		s.unpublish(ctx)
	}
}

// next makes a new pod, with another kind of volume.
func (s *slot) next() {
	all := volumeSpecs()
	spec := all[rand.N(len(all))]
	if spec.group && mountns.InUserNamespace() {
		spec.group = false // it has only one group
	}
	vault := fullVaults[rand.N(len(fullVaults))]
	s.lives++
	k, _ := s.testNode.kubelet() // not with s.mu held, because kill locks in the other order
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = ""
	s.spec, s.files, s.volume = spec, spec.files(vault), spec.volume(fmt.Sprintf("v%d-%d", s.number, s.lives), vault)
	s.vaults = vaultsOf(s.files)
	s.target = k.Target(s.volume)
	s.set, s.objects, s.shown = "", nil, nil
	s.phase = publishing
}

func (s *slot) enter(p phase) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase = p
	if p == published {
		s.since = time.Now()
	}
}

// call is one call of the kubelet, with its timeout of two minutes. cut reports that the daemon ended meanwhile.
func (s *slot) call(ctx context.Context, do func(*kubelet.Kubelet, context.Context) error) (cut bool, err error) {
	k, before := s.testNode.kubelet()
	mint := k.Token
	k.Token = func(ctx context.Context, v kubelet.Volume) (string, error) { // the kubelet caches tokens too
		if s.token == "" {
			var err error
			if s.token, err = mint(ctx, v); err != nil {
				return "", err
			}
		}
		return s.token, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), suite.Patience)
	defer cancel()
	s.testNode.inFlight.Add(1)
	err = do(&k, ctx)
	s.testNode.inFlight.Add(-1)
	if err == nil {
		return false, nil
	}
	if _, now := s.testNode.kubelet(); now != before {
		s.testNode.cut.Add(1)
		return true, err
	}
	return false, err
}

// publish repeats the call until the volume is published or ctx ends.
func (s *slot) publish(ctx context.Context) bool {
	wait := 500 * time.Millisecond
	for {
		began := time.Now()
		cut, err := s.call(ctx, func(k *kubelet.Kubelet, ctx context.Context) error { return k.Publish(ctx, s.volume) })
		if err == nil {
			s.testNode.published.Add(1)
			s.enter(published)
			s.inspect(false)
			return true
		}
		if !cut {
			s.refused(began, err)
		}
		if !pause(ctx, wait) {
			return false
		}
		wait = min(2*wait, s.testNode.form.period)
	}
}

// refused checks a failed first publish: there must be a fault, and nothing may be left.
func (s *slot) refused(began time.Time, err error) {
	s.testNode.refused.Add(1)
	if last, now := s.testNode.faultLog.of(s.vaults); !now && began.Sub(last) > s.testNode.form.bound {
		s.testNode.problem("%s, %s: a first publish failed without a fault: %v", s.volume.Name, s.spec.name, err)
	}
	if _, err := os.Lstat(s.target); !errors.Is(err, fs.ErrNotExist) {
		s.testNode.problem("%s: a refused publish left its target (%v)", s.volume.Name, err)
	}
}

// refresh calls for the volume periodically until the pod is deleted.
func (s *slot) refresh(ctx context.Context) {
	f := s.testNode.form
	end := time.Now().Add(f.life/2 + rand.N(f.life))
	for s.testNode.frozen.Load() || time.Now().Before(end) {
		if !pause(ctx, f.period*4/5+rand.N(f.period*2/5)) {
			return
		}
		if f.aged {
			_ = aging.Set(s.target, time.Now().Add(-interval-time.Second))
		}
		cut, err := s.call(ctx, func(k *kubelet.Kubelet, ctx context.Context) error { return k.Publish(ctx, s.volume) })
		switch {
		case err == nil:
			s.testNode.refreshed.Add(1)
			s.inspect(false)
		case !cut:
			s.testNode.problem("%s, %s: the refresh of a published volume failed: %v", s.volume.Name, s.spec.name, err)
		case status.Code(err) != codes.Unavailable && status.Code(err) != codes.Canceled:
			s.testNode.problem("%s: a call that ended with the daemon: %v", s.volume.Name, err)
		}
	}
}

// unpublish repeats the call until the volume is removed. It must succeed during faults too.
func (s *slot) unpublish(ctx context.Context) {
	s.enter(unpublishing)
	for {
		cut, err := s.call(ctx, func(k *kubelet.Kubelet, ctx context.Context) error { return k.Unpublish(ctx, s.volume) })
		if err == nil {
			break
		}
		if !cut {
			s.testNode.problem("%s: unpublish: %v", s.volume.Name, err)
			return
		}
	}
	s.enter(unpublished)
	s.testNode.removed.Add(1)
	k, _ := s.testNode.kubelet()
	if _, err := os.Lstat(k.PodDir(s.volume)); !errors.Is(err, fs.ErrNotExist) {
		s.testNode.problem("%s: the pod's folder still exists: %v", s.volume.Name, err)
	}
}

// newest reports whether the volume is published and has the newest values.
func (s *slot) newest() bool {
	s.inspect(false)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != published || s.objects == nil {
		return false
	}
	for _, shownObject := range s.objects {
		if _, outdated, err := s.testNode.histories[shownObject.vault].find(shownObject.object, shownObject.content); err != nil || !outdated.IsZero() {
			return false
		}
	}
	return true
}

// inspect checks the volume while the daemon runs. With fresh it reads the set again even if it is known.
func (s *slot) inspect(fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != publishing && s.phase != published {
		return // an unpublish removes parts in any order
	}
	s.testNode.looks.Add(1)
	err := s.read(fresh)
	for range 10 { // the set may be replaced meanwhile
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
	case s.phase == publishing && errors.Is(err, fs.ErrNotExist) && !s.mounted():
	default:
		s.testNode.problem("%s, %s: %v", s.volume.Name, s.spec.name, err)
	}
}

// inspectDead checks the volume while no daemon runs. It returns the target if a volume is mounted there.
func (s *slot) inspectDead(mounted map[string]int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	times := mounted[s.target]
	switch {
	case s.phase == unpublished && times > 0, times > 1:
		s.testNode.problem("after kill -9: %s is mounted %d times in phase %d", s.volume.Name, times, s.phase)
	case s.phase == published && times == 0:
		s.testNode.problem("after kill -9: %s is not mounted any more", s.volume.Name)
	case times == 1:
		if err := s.read(true); err != nil {
			s.testNode.problem("after kill -9: %s, %s, phase %d: %v", s.volume.Name, s.spec.name, s.phase, err)
		}
	}
	if times > 0 {
		return s.target
	}
	return ""
}

// mounted reports whether the target is a mount without a set. The caller holds s.mu.
func (s *slot) mounted() bool {
	var at, above syscall.Stat_t
	if syscall.Stat(s.target, &at) != nil || syscall.Stat(filepath.Dir(s.target), &above) != nil || at.Dev == above.Dev {
		return false
	}
	_, err := os.Readlink(filepath.Join(s.target, "..data"))
	return err != nil
}

// read reads and checks the volume's set. The caller holds s.mu.
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
	if set == s.set && s.objects != nil && !fresh {
		return s.check(info.ModTime())
	}
	s.set = set
	objects, err := readSet(folder, s.files, s.spec.group)
	if err != nil {
		return err
	}
	s.testNode.sets.Add(1)
	s.objects = objects
	return s.check(info.ModTime())
}
