package tmpfs

import (
	"cmp"
	"context"
	"sync"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Memory is the memory of the driver, to which the kernel charges all volumes of the node.
type Memory struct {
	Limits   []Limit // of its cgroup and the parents; none: no limit
	Process  int64   // what the process may use for itself
	Resident int64   // what it uses for itself now; part of Limit.Used
}

// Limit is one limit, and what counts against it: tmpfs pages, the process, kernel memory, but no memory that the kernel can reclaim.
type Limit struct{ Bytes, Used int64 }

// Budget is the state of the memory of the driver.
type Budget struct {
	Limit   int64 // the smallest; 0: none
	Used    int64 // what is not available for new volumes: volumes, the reserve for refreshes, and what the process may use
	Volumes int64 // what volumes use
}

// What the kernel charges for a volume beside the pages of its files. Measured on Linux 6.18: 8 KiB for a mount, 960 bytes for a file, folder
// or link, 1,472 with a long name, and 16 for each page of a file.
const (
	mountCharge = 16 << 10
	inodeCharge = 2 << 10
	ownInodes   = 3   // the root of a volume, its attribute, and ..data
	pageShare   = 128 // one byte more for so many bytes of pages

	// spare is what a refresh leaves free in a full budget, for what kernel and process use meanwhile.
	spare = 4 << 20
)

// charge returns what the kernel charges for pages and inodes.
func (c capacity) charge() int64 { return c.bytes + c.bytes/pageShare + c.inodes*inodeCharge }

// budget distributes the memory of the driver among the volumes, so that the kernel never has to kill the driver.
//
// Two sums must stay below the limits: that of the mounted volumes, because those of an earlier pod of the driver are charged to this one
// only from their next rotation on; and what the kernel counts, with sockets and removed files that containers keep open.
//
// Refreshes must work in a full budget, and hold two sets while they write. So a first mount leaves free what the largest set needs, and
// refreshes share that: when memory is short they write one after another. What makes a volume larger for good, as a larger set or one
// more set because a container uses the old one, must be available as for a new volume.
type budget struct {
	memory func() Memory // nil: no limit

	mu      sync.Mutex
	volumes map[string]volumeUsage // by mount path
	claimed demand                 // by calls that are writing
	ended   chan struct{}          // closed when the next of them ends
}

// volumeUsage is the memory of a mounted volume.
type volumeUsage struct {
	total int64
	set   int64 // of it, the current set; 0: not known, because an earlier process has written it
}

// demand is the memory that a call needs for good, and only while it writes.
type demand struct{ permanent, temporary int64 }

// shortage says how much was demanded, and how much of the limit is taken.
type shortage struct{ need, taken, limit int64 }

func newBudget(memory func() Memory) *budget {
	return &budget{memory: memory, volumes: map[string]volumeUsage{}, ended: make(chan struct{})}
}

// claim takes the memory for a call that writes. With wait it waits for other such calls, which take milliseconds.
func (b *budget) claim(ctx context.Context, d demand, wait bool) (release func(), err error) {
	if b.memory == nil {
		return func() {}, nil
	}
	for {
		b.mu.Lock()
		ended := b.ended
		b.mu.Unlock()
		m := b.memory() // may still count the memory of a call that ends meanwhile
		short, retry := b.tryClaim(m, d, ended)
		if short == nil {
			return func() { b.release(d) }, nil
		}
		if !wait || !retry {
			return nil, short.err()
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return nil, short.err()
		}
	}
}

// tryClaim claims d, or returns what is missing. retry reports that it may be enough when another call ends, or has ended since.
func (b *budget) tryClaim(m Memory, d demand, ended chan struct{}) (short *shortage, retry bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	// The sum of the volumes comes first, because its numbers are the same each time.
	short = cmp.Or(b.short(m, d, b.claimed, false), b.short(m, d, b.claimed, true))
	if short == nil {
		b.claimed = demand{b.claimed.permanent + d.permanent, b.claimed.temporary + d.temporary}
		return nil, false
	}
	if alone := b.short(m, d, demand{}, false); d.permanent > 0 && alone != nil {
		return alone, false
	}
	return short, b.claimed != demand{} || ended != b.ended
}

func (b *budget) release(d demand) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.claimed = demand{b.claimed.permanent - d.permanent, b.claimed.temporary - d.temporary}
	close(b.ended)
	b.ended = make(chan struct{})
}

// short returns what is missing for d beside what is claimed, by the sum of the volumes or by the count of the kernel; nil if nothing.
func (b *budget) short(m Memory, d, claimed demand, byKernel bool) *shortage {
	for _, l := range m.Limits {
		taken := b.sum() + claimed.permanent
		if byKernel {
			taken = l.Used - m.Resident + claimed.permanent
		}
		if d.permanent > 0 {
			taken += m.own() + b.reserve(d, claimed) - d.temporary
		} else {
			taken += m.Resident + claimed.temporary + spare
		}
		if need := d.permanent + d.temporary; taken+need > l.Bytes {
			return &shortage{need: need, taken: taken, limit: l.Bytes}
		}
	}
	return nil
}

// reserve returns what refreshes need: those that write together with d, or the largest possible.
func (b *budget) reserve(d, claimed demand) int64 {
	reserve := max(claimed.temporary+d.temporary, d.permanent+d.temporary)
	for _, v := range b.volumes {
		reserve = max(reserve, cmp.Or(v.set, v.total))
	}
	return reserve
}

func (b *budget) sum() (sum int64) {
	for _, v := range b.volumes {
		sum += v.total
	}
	return sum
}

// own returns what the process may use, and so is not for volumes.
func (m Memory) own() int64 { return max(m.Process, m.Resident+spare) }

// set records the usage of a volume. A usage without a set keeps that number.
func (b *budget) set(t *target, v volumeUsage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v.set = cmp.Or(v.set, b.volumes[t.mountPath()].set)
	b.volumes[t.mountPath()] = v
}

// measure records what the volume at t uses now; set is the charge of its current set, 0 if that has not changed.
func (b *budget) measure(t *target, set int64) {
	if _, used, err := statfs(t.fd); err == nil {
		b.set(t, volumeUsage{total: mountCharge + used.charge(), set: set})
	}
}

// remove is for a target at which nothing is mounted any more, whatever has unmounted it.
func (b *budget) remove(t *target) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.volumes, t.mountPath())
}

func (b *budget) usageOf(t *target) volumeUsage {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.volumes[t.mountPath()]
}

// Budget returns the state of the memory, by the limit that leaves least.
func (s *Store) Budget() Budget {
	b := s.budget
	var m Memory
	if b.memory != nil {
		m = b.memory()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := Budget{Volumes: b.sum()}
	others := m.own() + b.reserve(demand{}, b.claimed)
	now.Used = others + now.Volumes
	for _, l := range m.Limits {
		used := others + max(now.Volumes, l.Used-m.Resident)
		if now.Limit == 0 || l.Bytes-used < now.Limit-now.Used {
			now.Limit, now.Used = l.Bytes, used
		}
	}
	return now
}

// err is the same line each time: in whole MiB; the need and what is taken are rounded up, the limit is rounded down.
func (s *shortage) err() error {
	return volume.Errorf(volume.ErrTooLarge, "no memory is left for it on this node: it takes %d MiB, and %d of the driver's %d MiB are taken by mounted volumes, "+
		"their refreshes and the driver itself; raise resources.limits.memory of the driver, or lower what pods of this node mount",
		mebibytes(s.need), mebibytes(s.taken), s.limit>>20)
}

func mebibytes(bytes int64) int64 { return (bytes + 1<<20 - 1) >> 20 }
