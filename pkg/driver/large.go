package driver

import (
	"slices"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const (
	// mostLarge is how many volumes of a node may be larger than the share of their namespace at the same time. One of
	// 4,096 objects and 1 MiB takes some 5 MB.
	mostLarge = 2
	// largeStill and largeTime are after how long a large volume gives way to those that wait: when it has not got
	// anything for so long, because its vault hangs or throttles, and in any case. largeTick is how often that is looked at.
	largeStill = 3 * time.Second
	largeTime  = 30 * time.Second
	largeTick  = time.Second
)

var errGaveWay = volume.Errorf(volume.ErrTooLarge, "the volume is large and its vault slow, and other large volumes waited for it; the kubelet tries again")

// large are the volumes that are larger than the share of their namespace, which must be the oldest there. They are
// admitted in the order in which they came, so that of ten tenants who mount nothing else each is served. The caller of its
// methods holds admission.mu.
type large struct {
	now     []*admitted
	waiting []*admitted
}

// admit says whether a publish may be large now. If not, it has its place among those that wait.
func (l *large) admit(p *admitted) bool {
	if !slices.Contains(l.waiting, p) {
		l.waiting = append(l.waiting, p)
	}
	if len(l.now) == mostLarge {
		l.press()
	}
	if l.waiting[0] != p || len(l.now) == mostLarge {
		return false
	}
	l.waiting = l.waiting[1:]
	l.now = append(l.now, p)
	p.large, p.since = true, time.Now()
	return true
}

// press ends a large volume that does not move, so that its memory is free when it has left.
func (l *large) press() {
	now := time.Now()
	for _, p := range l.now {
		if now.Sub(p.moved) >= largeStill || now.Sub(p.since) >= largeTime {
			p.cancel(errGaveWay)
		}
	}
}

// pass takes a publish out of those that wait, and lets the next one try.
func (l *large) pass(p *admitted) {
	l.waiting = slices.DeleteFunc(l.waiting, func(other *admitted) bool { return other == p })
	if len(l.waiting) > 0 {
		l.waiting[0].load.wake()
	}
}

// leave takes a publish out of all.
func (l *large) leave(p *admitted) {
	l.now = slices.DeleteFunc(l.now, func(other *admitted) bool { return other == p })
	l.pass(p)
}
