package tmpfs

import (
	"context"
	"maps"
	"math"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Memory is what bounds the memory of the driver, to which the kernel charges all volumes of the node.
type Memory struct {
	Limits   []Limit // of its cgroup and of those above; none: no bound
	Process  int64   // what the process may come to take for itself
	Resident int64   // what it takes for itself now; part of what is used
}

// Limit is one bound, and what counts against it: tmpfs pages, the process, memory of the kernel. Memory that the kernel can
// take back does not count.
type Limit struct{ Bytes, Used int64 }

// Budget is how the memory of the driver stands.
type Budget struct {
	Limit   int64 // the smallest; 0: none
	Used    int64 // what no new volume can have: volumes, the room for their refreshes, and what the process may come to take
	Volumes int64 // what volumes take
}

// What the kernel takes for a volume beside the pages of its files: measured, on Linux 6.18, are 8 KiB for a mount, 960 bytes for a file,
// folder or link, 1,472 with a long name, and 16 for each page of a file.
const (
	mountCharge = 16 << 10
	inodeCharge = 2 << 10
	ownInodes   = 3   // the root of a volume, its mark, and ..data
	pageShare   = 128 // one byte more for so many in pages

	// spare is what a refresh must leave free, when the budget is full: for what the kernel and the process take meanwhile.
	spare = 4 << 20
)

// charge is what the kernel charges for pages and inodes.
func charge(r room) int64 { return r.bytes + r.bytes/pageShare + r.inodes*inodeCharge }

// budget shares the memory of the driver out among the volumes, so that the kernel never has to kill the driver.
//
// Two counts are kept to, because each sees what the other does not. The first is of the volumes that are mounted, whoever they are charged
// to: those of an earlier pod of the driver are charged to its cgroup, and move to this one with each rotation. The second is
// what the kernel counts: the process, sockets, removed files that containers keep open.
//
// Refreshes must go on when the budget is full. A refresh that changes something holds two sets for as long as it writes. So a
// first mount leaves free what the largest set takes, and refreshes share that: when memory is short they write one after
// another. What makes a volume larger for good must find room like a new volume: a larger set, or one more
// set because a container still uses the one before.
type budget struct {
	memory func() Memory // nil: without bound

	mu      sync.Mutex
	volumes map[uint64]holding // by device
	claimed demand             // by the calls that are writing
	calls   int                // how many they are
	ended   chan struct{}      // closed when the next of them ends
}

// holding is what a mounted volume takes.
type holding struct {
	path  string // where it is mounted, see target.real
	total int64
	set   int64 // of it, the current set; 0: not known, it was written by an earlier process
}

// demand is what a call asks for: memory that stays, and memory that it only needs while it writes.
type demand struct{ stays, passes int64 }

// shortage says how much was asked for, and what is taken of what there is.
type shortage struct{ need, taken, limit int64 }

func newBudget(memory func() Memory) *budget {
	return &budget{memory: memory, volumes: map[uint64]holding{}, ended: make(chan struct{})}
}

// claim takes the memory for a call that writes. Where it is lacking only because of other calls that write, it waits for them, if the
// caller wants to: they take milliseconds.
func (b *budget) claim(ctx context.Context, d demand, wait bool) (release func(), err error) {
	if b.memory == nil {
		return func() {}, nil
	}
	for {
		ended := b.next()
		m := b.memory() // may still count what a call gives back that ends meanwhile
		b.mu.Lock()
		short := b.short(m, d)
		if short == nil {
			b.claimed.stays += d.stays
			b.claimed.passes += d.passes
			b.calls++
			b.mu.Unlock()
			return func() { b.release(d) }, nil
		}
		if alone := b.counted(m, d, demand{}); d.stays > 0 && alone != nil { // whatever becomes of the others
			short, wait = alone, false
		}
		wait = wait && (b.calls > 0 || ended != b.ended)
		b.mu.Unlock()
		if !wait {
			return nil, short.err()
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return nil, short.err()
		}
	}
}

// next is closed when the next call ends.
func (b *budget) next() chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ended
}

func (b *budget) release(d demand) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.claimed.stays -= d.stays
	b.claimed.passes -= d.passes
	b.calls--
	close(b.ended)
	b.ended = make(chan struct{})
}

// short says what is lacking for d beside all that is claimed; nil if nothing.
func (b *budget) short(m Memory, d demand) *shortage {
	if d.stays > 0 {
		if short := b.counted(m, d, b.claimed); short != nil { // its figures are the same each time
			return short
		}
	}
	for _, l := range m.Limits {
		taken := l.Used + b.claimed.stays
		if d.stays > 0 {
			taken += m.own() - m.Resident + b.reserve(d, b.claimed) - d.passes
		} else {
			taken = max(taken, m.Resident+b.sum()+b.claimed.stays) + b.claimed.passes + spare
		}
		if short := over(d, taken, l.Bytes); short != nil {
			return short
		}
	}
	return nil
}

// counted holds what stays of d against the smallest limit, by the count of the mounted volumes.
func (b *budget) counted(m Memory, d, claimed demand) *shortage {
	return over(d, m.own()+b.sum()+claimed.stays+b.reserve(d, claimed)-d.passes, m.smallest())
}

func over(d demand, taken, limit int64) *shortage {
	if need := d.stays + d.passes; taken+need > limit {
		return &shortage{need: need, taken: taken, limit: limit}
	}
	return nil
}

// reserve is what refreshes need: those that write now together with d, or the largest that there can be.
func (b *budget) reserve(d, claimed demand) int64 {
	reserve := max(claimed.passes+d.passes, d.stays+d.passes)
	for _, h := range b.volumes {
		reserve = max(reserve, h.set)
		if h.set == 0 {
			reserve = max(reserve, h.total)
		}
	}
	return reserve
}

func (b *budget) sum() (sum int64) {
	for _, h := range b.volumes {
		sum += h.total
	}
	return sum
}

// own is what the process may come to take, and so is not for new volumes.
func (m Memory) own() int64 { return max(m.Process, m.Resident+spare) }

func (m Memory) smallest() int64 {
	smallest := int64(math.MaxInt64)
	for _, l := range m.Limits {
		smallest = min(smallest, l.Bytes)
	}
	return smallest
}

// hold notes what the volume on a device takes by now. A set of 0 leaves that number as it is.
func (b *budget) hold(device uint64, h holding) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if before := b.volumes[device]; h.set == 0 && before.path == h.path {
		h.set = before.set
	}
	b.volumes[device] = h
}

// forget is for a path at which no volume is mounted any more, whoever has unmounted it. Its device would not tell which one that was: by now
// another volume may have the number.
func (b *budget) forget(path string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.volumes, func(_ uint64, h holding) bool { return h.path == path })
}

// of gives what is known of a volume.
func (b *budget) of(device uint64) holding {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.volumes[device]
}

// holdPlace measures what the volume at p takes by now.
func (b *budget) holdPlace(p *place, set int64) {
	if st, err := statfs(p.fd); err == nil {
		b.hold(p.device, holding{path: p.at.real(), total: taken(&st), set: set})
	}
}

// taken is what a volume takes, by its own numbers.
func taken(st *unix.Statfs_t) int64 {
	return mountCharge + charge(room{
		bytes:  int64(st.Blocks-st.Bfree) * st.Bsize, //nolint:gosec // G115: our own size, bounded by Options
		inodes: int64(st.Files - st.Ffree),           //nolint:gosec // G115: as above
	})
}

// Budget says how the memory of the driver stands, by the limit that leaves least.
func (s *Store) Budget() Budget {
	b := s.budget
	var m Memory
	if b.memory != nil {
		m = b.memory()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := Budget{Volumes: b.sum()}
	reserve := b.reserve(demand{}, b.claimed)
	now.Used = m.own() + now.Volumes + reserve
	if len(m.Limits) == 0 {
		return now
	}
	now.Limit = m.smallest()
	for _, l := range m.Limits {
		if used := l.Used + m.own() - m.Resident + reserve; l.Bytes-used < now.Limit-now.Used {
			now.Limit, now.Used = l.Bytes, used
		}
	}
	return now
}

// err is the same line each time: in whole MiB, more rather than less.
func (s *shortage) err() error {
	return volume.Errorf(volume.ErrTooLarge, "no memory is left for it on this node: it takes %d MiB, and %d of the driver's %d MiB are taken by mounted volumes, "+
		"their refreshes and the driver itself; raise resources.limits.memory of the driver, or lower what pods of this node mount",
		mib(s.need), mib(s.taken), s.limit>>20)
}

func mib(bytes int64) int64 { return (bytes + 1<<20 - 1) >> 20 }
