package crash_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// The daemon of a busy node is killed at random instants and started again, repeatedly.
func TestKill(t *testing.T) {
	t.Parallel()
	kills, volumes := suite.Rounds(30, 1000), suite.Rounds(8, 14)
	seed := seedOf(t)
	before := newBaseline(t)
	run := &killRun{
		t: t, kills: kills, random: rand.New(rand.NewPCG(seed, 1)), answers: make(chan struct{}, 1000),
		tally: tally{inFlight: map[kind]int{}, kills: map[kind]int{}},
	}
	// Without the HTTP port, which another process could take before the restart.
	run.n = node.New(t, node.Options{Env: []string{"TMPDIR=" + before.temporary}, Flags: []string{"--http-address=", "--mount-max-age=0"}})
	for i := range volumes {
		run.workers = append(run.workers, &worker{
			killRun: run, pod: newPod(run.n, fmt.Sprint("v", i), 30, 600), random: rand.New(rand.NewPCG(seed, uint64(i)+2)),
		})
	}
	run.run()
	if t.Failed() {
		return // the daemon runs
	}
	quit(t, run.n)
	before.nothingLeft(t, run.n)
	run.report(seed)
}

// seedOf returns the seed of the instants; KEYVAULT_CSI_SEED sets it.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("KEYVAULT_CSI_SEED")
	if text == "" {
		return rand.Uint64()
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return seed
}

// kind is the kind of a call.
type kind string

const (
	none       kind = ""
	publishing kind = "publish" // the first
	swapping   kind = "swap"    // a republish that finds a new generation
	refreshing kind = "refresh" // a republish that finds nothing new
	removing   kind = "unpublish"
)

// killRun is a node whose daemon is killed again and again.
type killRun struct {
	t       *testing.T
	n       *node.Node
	kills   int
	random  *rand.Rand // of the killer
	workers []*worker
	tally   tally

	daemonUp sync.RWMutex // locked for reading by calls, for writing while no daemon runs
	dying    atomic.Bool
	over     atomic.Bool
	answered atomic.Int64  // calls that answered OK
	answers  chan struct{} // since the last start
}

// tally counts the calls that the kills interrupted, and the states that they left.
type tally struct {
	inFlight map[kind]int // calls, by kind, at the instants of the kills
	kills    map[kind]int // that interrupted at least one call of the kind
	calls    int          // in flight, of all kinds
	most     int          // in flight at one kill
	idle     int          // kills that interrupted no call

	absent, folders, whole       int // targets, as found after a kill
	oldSets, dangling, halfLinks int // volumes that the next call cleans up
}

func (s *killRun) run() {
	var all sync.WaitGroup
	defer all.Wait()
	defer s.over.Store(true)
	for _, w := range s.workers {
		all.Go(w.work)
	}
	for i := range s.kills {
		if i%100 == 0 && i > 0 {
			s.t.Logf("%d kills, %d calls in flight, %d answered OK", i, s.tally.calls, s.answered.Load())
		}
		s.waitForKill()
		s.kill()
		if s.t.Failed() {
			return
		}
	}
}

// waitForKill waits for the instant of the next kill. One of four kills is at a random time, which may be during the start. The others
// are at a random time after a number of answers, so that on a slow machine too they interrupt calls of all kinds.
func (s *killRun) waitForKill() {
	instant := time.Duration(s.random.Int64N(int64(100 * time.Millisecond)))
	if s.random.IntN(4) > 0 {
		instant /= 20
		late := time.After(suite.Patience)
		for range s.random.IntN(2 * len(s.workers)) {
			select {
			case <-s.answers:
			case <-late:
				s.t.Error("no call is answered any more")
				return
			}
		}
	}
	<-time.After(instant) // not a wait for something
}

func (s *killRun) kill() {
	s.dying.Store(true)
	s.countInFlight()
	if _, err := s.n.StopDaemon(unix.SIGKILL); err != nil {
		s.t.Error(err)
	}
	s.daemonUp.Lock() // all calls have failed now
	defer s.daemonUp.Unlock()
	for _, w := range s.workers {
		w.inspect()
	}
	restart(s.t, s.n)
	s.answers = make(chan struct{}, 1000)
	s.dying.Store(false)
}

// countInFlight counts the calls in flight.
func (s *killRun) countInFlight() {
	met, calls := map[kind]bool{}, 0
	for _, w := range s.workers {
		if k, _ := w.doing.Load().(kind); k != none {
			s.tally.inFlight[k]++
			met[k] = true
			calls++
		}
	}
	for k := range met {
		s.tally.kills[k]++
	}
	s.tally.calls += calls
	s.tally.most = max(s.tally.most, calls)
	if calls == 0 {
		s.tally.idle++
	}
}

func (s *killRun) report(seed uint64) {
	c := &s.tally
	logVerdict(s.t, "kill -9: %d kills, %d calls in flight (%d first publishes, %d swaps, %d refreshes, %d unpublishes; at most %d at once), %d calls answered OK; seed %d",
		s.kills, c.calls, c.inFlight[publishing], c.inFlight[swapping], c.inFlight[refreshing], c.inFlight[removing], c.most, s.answered.Load(), seed)
	logVerdict(s.t, "kill -9: %d kills interrupted first publishes, %d swaps, %d refreshes, %d unpublishes, %d no call",
		c.kills[publishing], c.kills[swapping], c.kills[refreshing], c.kills[removing], c.idle)
	logVerdict(s.t, "kill -9: after a kill %d targets were whole, %d absent, %d bare folders, none half made; after kills in a swap %d volumes had one set more, %d had links of another set, %d had a temporary ..data; no set mixed, no volume lost, nothing left at the end",
		c.whole, c.absent, c.folders, c.oldSets, c.dangling, c.halfLinks)
}

// worker plays the kubelet for one pod.
type worker struct {
	*killRun
	pod    *pod
	random *rand.Rand
	doing  atomic.Value // kind
}

// work publishes, rotates and unpublishes the pod's volume, repeatedly.
func (w *worker) work() {
	for !w.t.Failed() {
		if !w.persist(publishing) {
			return
		}
		for range w.random.IntN(4) {
			next := swapping
			if w.random.IntN(4) == 0 {
				next = refreshing
			}
			if !w.persist(next) {
				return
			}
		}
		// The kubelet unpublishes also the volume of a pod that was deleted while it was mounted.
		if !w.persist(removing) {
			return
		}
		if w.over.Load() {
			return
		}
	}
}

// persist repeats a call until it answers OK, and reports whether to continue.
func (w *worker) persist(k kind) bool {
	for again := false; !w.t.Failed(); again = true {
		if again && k == publishing && w.random.IntN(3) == 0 {
			return w.persist(removing) // the pod was deleted meanwhile
		}
		if w.once(k, !again) {
			return true
		}
	}
	return false
}

// once makes one call to one daemon process, and checks the state after an OK.
func (w *worker) once(k kind, first bool) (ok bool) {
	w.daemonUp.RLock()
	defer w.daemonUp.RUnlock()
	v := w.pod.Volume
	if k == swapping && first {
		w.pod.change(w.n)
	}
	if k == swapping || k == refreshing {
		if w.pod.floor == 0 {
			return true // the pod was deleted before it ran
		}
		w.n.Age(w.t, v, due)
	}
	call, promised := w.n.Publish, w.pod.current
	if k == removing {
		call, promised = w.n.Unpublish, w.pod.gone
		w.pod.floor = 0
	}
	w.doing.Store(k)
	err := call(w.t.Context(), v)
	w.doing.Store(none)
	if w.dying.Load() && status.Code(err) == codes.Unavailable {
		return false
	}
	if err == nil {
		w.answered.Add(1)
		select {
		case w.answers <- struct{}{}:
		default:
		}
		err = promised(w.n)
	}
	if err != nil {
		w.t.Errorf("%s %s: %v", k, v.Name, err)
	}
	return err == nil
}

// inspect checks the pod's target while no daemon runs.
func (w *worker) inspect() {
	f, err := w.pod.look(w.n)
	if err != nil {
		w.t.Errorf("after a kill: %v", err)
		return
	}
	c := &w.tally
	switch {
	case f.mounts > 0 && !f.complete:
		w.t.Errorf("after a kill %s is mounted without a set", w.pod.Name)
	case f.complete:
		c.whole++
		if f.generation < w.pod.floor || f.generation > w.pod.now {
			w.t.Errorf("after a kill %s holds generation %d, not %d to %d", w.pod.Name, f.generation, w.pod.floor, w.pod.now)
		}
	case f.folder:
		c.folders++
	default:
		c.absent++
	}
	if !f.complete && w.pod.floor > 0 {
		w.t.Errorf("a kill has removed the volume %s: %+v", w.pod.Name, f)
	}
	if f.oldSets > 0 {
		c.oldSets++
	}
	if f.dangling > 0 {
		c.dangling++
	}
	if f.halfLink {
		c.halfLinks++
	}
}
