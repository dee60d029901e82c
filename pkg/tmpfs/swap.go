package tmpfs

import (
	"context"
	"errors"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// swapOption remembers whether this kernel refused the option noswap (before Linux 6.3, and in user namespaces), so
// that it is tried, and said in the log, once. It is the only option that a volume is ever mounted without.
type swapOption struct{ refused atomic.Bool }

// refuse remembers that the kernel does not take noswap.
func (s *swapOption) refuse(ctx context.Context) {
	if s.refused.CompareAndSwap(false, true) {
		klog.FromContext(ctx).Info("This kernel refuses the tmpfs option noswap (it is older than 6.3, or this is a user namespace): " +
			"content of volumes may be written to swap, if the node has any")
	}
}

// repeat is for changes to a tmpfs that is mounted. Linux 6.4 to 6.17 take them only if noswap is given again where it
// was given first, and not where it was not, which is so for a volume from before an upgrade of the kernel's rights; what
// was given can be seen nowhere else than in the answer.
func (s *swapOption) repeat(change func(noswap bool) error) error {
	if !s.refused.Load() {
		if err := change(true); !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	return change(false)
}
