package soak_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// testNode is a node with its daemon, its cloud and its pods.
type testNode struct {
	t    *testing.T
	name string
	form form
	n    *node.Node

	histories map[string]*vaultHistory // by vault
	faultLog  faultLog
	slots     []*slot

	link        sync.RWMutex // locked for writing while no daemon runs
	incarnation int          // number of the daemon process; guarded by link

	frozen     atomic.Bool // no pod is created or deleted
	published  atomic.Int64
	refreshed  atomic.Int64
	removed    atomic.Int64
	cut        atomic.Int64 // calls that ended with the daemon
	refused    atomic.Int64 // first publishes that failed with a fault
	sets       atomic.Int64 // complete sets read
	looks      atomic.Int64
	afterKill  atomic.Int64 // targets checked while no daemon ran
	inFlight   atomic.Int64 // calls now
	caught     atomic.Int64 // calls in flight when the daemon was killed
	killCount  int
	faultCount int
	faults     map[string]int
	settled    time.Duration // after the last change and the last fault

	mu       sync.Mutex
	updates  []update
	problems int
	samples  []sampled
	first    sampled // before any volume
	last     sampled // after all volumes
}

// update is a change of a volume to a newer value.
type update struct {
	at    time.Time
	delay time.Duration // since the previous value was replaced in the vault, or since the end of a fault after that
	after bool          // there was such a fault
}

func newTestNode(t *testing.T, name string, f form, volumes int) *testNode {
	t.Helper()
	n, err := node.Start(t.Context(), node.Options{
		Flags: []string{"--rotation-interval=" + interval.String()},
		Cloud: devcloud.Options{TokenLife: 5 * time.Minute},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &testNode{t: t, name: name, form: f, n: n, histories: map[string]*vaultHistory{}, faults: map[string]int{}}
	s.faultLog.last = map[string]time.Time{}
	s.faultLog.active = map[string]int{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the daemon of the node %s wrote at the end:\n%s", name, tail(n.Output(), 16<<10))
		}
		n.Close()
	})
	for _, vault := range append(slices.Clone(fullVaults), bulk) {
		if err := s.fill(vault); err != nil {
			t.Fatal(err)
		}
	}
	s.first = s.takeSample(t.Context())
	for i := range volumes {
		s.slots = append(s.slots, newSlot(s, i))
	}
	return s
}

func tail(text string, most int) string { return text[max(0, len(text)-most):] }

// fill adds a vault with its objects. The vault of package node exists already.
func (s *testNode) fill(name string) error {
	vault := s.n.Vault
	if name != node.VaultName {
		var err error
		if vault, err = s.n.Cloud.AddVault(name, devcloud.VaultOptions{Tenant: node.Tenant}); err != nil {
			return err
		}
		vault.Grant(node.WorkloadID)
		vault.Grant(node.PrincipalID)
	}
	b := newHistory(vault)
	s.histories[name] = b
	for i := range plainSecrets {
		b.set(fmt.Sprint("app-", i))
	}
	if name == bulk {
		for i := range extras {
			b.set(fmt.Sprint("extra-", i))
		}
		return nil
	}
	for i := range certificates {
		if err := b.issue(fmt.Sprint("web-", i)); err != nil {
			return err
		}
	}
	return nil
}

// problem reports a broken promise. It prints only the first, because one cause has many.
func (s *testNode) problem(format string, args ...any) {
	s.mu.Lock()
	s.problems++
	n := s.problems
	s.mu.Unlock()
	if n <= 20 {
		s.t.Errorf("%s %s: %s", time.Now().Format(time.TimeOnly), s.name, fmt.Sprintf(format, args...))
	}
}

// kubelet returns a kubelet that is connected to the current daemon, and the number of that daemon.
func (s *testNode) kubelet() (kubelet.Kubelet, int) {
	s.link.RLock()
	defer s.link.RUnlock()
	return s.n.Kubelet, s.incarnation
}

// changes sets, deletes and issues objects of the vaults until ctx ends.
func (s *testNode) changes(ctx context.Context) {
	for i := 1; pause(ctx, s.form.change); i++ {
		vault := append(slices.Clone(fullVaults), bulk)[rand.N(len(fullVaults)+1)]
		b := s.histories[vault]
		b.set(fmt.Sprint("app-", rand.N(plainSecrets)))
		if i%10 == 0 {
			name := fmt.Sprint("web-", rand.N(certificates))
			if err := s.histories[fullVaults[rand.N(len(fullVaults))]].issue(name); err != nil {
				s.problem("issue %s: %v", name, err)
			}
		}
		if i%8 == 0 {
			s.toggle(fmt.Sprint("extra-", rand.N(extras)))
		}
	}
}

// toggle deletes a secret, or creates it if it does not exist.
func (s *testNode) toggle(name string) {
	b := s.histories[bulk]
	b.mu.Lock()
	states := b.objects[name].states
	exists := states[len(states)-1].content != absent
	b.mu.Unlock()
	if !exists {
		b.set(name)
		return
	}
	if err := b.remove(name); err != nil {
		s.problem("delete %s: %v", name, err)
	}
}

// kills ends the daemon with SIGKILL periodically until ctx ends.
func (s *testNode) kills(ctx context.Context) {
	for pause(ctx, s.form.kill*3/4+rand.N(s.form.kill/2)) {
		s.kill(ctx)
	}
}

// kill kills the daemon with SIGKILL, checks every target, and starts a new daemon.
func (s *testNode) kill(ctx context.Context) {
	s.link.Lock()
	defer s.link.Unlock()
	s.caught.Add(s.inFlight.Load())
	if _, err := s.n.StopDaemon(syscall.SIGKILL); err != nil {
		s.problem("kill -9: %v", err)
		return
	}
	s.killCount++
	if s.form.aged {
		s.faultLog.touch()
	}
	mounts, err := kubelet.Mounts(s.n.Dir)
	if err != nil {
		s.problem("%v", err)
	}
	mounted := map[string]int{}
	for _, m := range mounts {
		mounted[m.Target]++
	}
	for _, slot := range s.slots {
		if target := slot.inspectDead(mounted); target != "" {
			delete(mounted, target)
		}
		s.afterKill.Add(1)
	}
	for target, times := range mounted {
		s.problem("after kill -9: %s is mounted %d times, and no pod has it", target, times)
	}
	if err := s.n.StartDaemon(context.WithoutCancel(ctx)); err != nil {
		s.problem("start the daemon after kill -9: %v", err)
		return
	}
	s.incarnation++
}

// watch checks all volumes periodically, independent of the kubelet.
func (s *testNode) watch(ctx context.Context) {
	for pause(ctx, s.form.watch) {
		for _, slot := range s.slots {
			s.link.RLock()
			slot.inspect(false)
			s.link.RUnlock()
		}
	}
}

// await waits until every volume is published.
func (s *testNode) await(ctx context.Context) {
	s.settle(ctx)
	s.frozen.Store(false)
}

// settle waits, after the last change and the last fault, until every volume has the newest values, which must be within the bound.
func (s *testNode) settle(ctx context.Context) {
	s.frozen.Store(true)
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, s.form.bound)
	defer cancel()
	left := len(s.slots)
	for pause(ctx, 100*time.Millisecond) {
		left = 0
		for _, slot := range s.slots {
			if !slot.newest() {
				left++
			}
		}
		if left == 0 {
			s.settled = time.Since(began)
			return
		}
	}
	s.problem("%d of %d volumes do not show the newest of everything %s after the last change and the last fault", left, len(s.slots), s.form.bound)
}

// finish checks what is left after all pods, and stops the daemon with SIGTERM.
func (s *testNode) finish(ctx context.Context) {
	if mounts, err := kubelet.Mounts(s.n.Dir); err != nil || len(mounts) != 0 {
		s.problem("when all volumes are gone: mounts %v (%v)", mounts, err)
	}
	if entries, err := os.ReadDir(filepath.Join(s.n.Root, "pods")); err != nil || len(entries) != 0 {
		s.problem("when all volumes are gone: %d folders of pods (%v)", len(entries), err)
	}
	s.last = s.takeSample(ctx)
	state, err := s.n.StopDaemon(syscall.SIGTERM)
	if err != nil || state.ExitCode() != 0 {
		s.problem("SIGTERM at the end: %v, %v", state, err)
	}
	if _, err := os.Lstat(s.n.Socket); !errors.Is(err, os.ErrNotExist) {
		s.problem("the socket outlives the daemon: %v", err)
	}
}
