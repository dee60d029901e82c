package tmpfs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// lockTries bounds how long a call waits for EBUSY to pass: a tenth of a second.
const lockTries = 100

// whileBusy repeats a change that makes a mount or a file system read-only as long as the kernel answers EBUSY. Most causes pass
// at once: a reader that has just opened a file of the replaced set, or, where this process starts another one, the copies of
// all descriptors that it has from its fork to its exec.
func whileBusy(ctx context.Context, change func() error) error {
	for try := 1; ; try++ {
		err := change()
		if !errors.Is(err, unix.EBUSY) || try == lockTries {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Millisecond):
		}
	}
}

// superblockWritable asks the mount table, since statfs(2) also says read-only for the attribute of the mount. What cannot be found
// there counts as writable: the caller then makes it read-only, which does no harm.
func (p *place) superblockWritable() bool {
	entries, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) { return deviceOf(i) != p.device, false })
	return err != nil || len(entries) == 0 || !slices.Contains(strings.Split(entries[0].VFSOptions, ","), "ro")
}

// deviceOf is the device number of the file system, as stat(2) has it.
func deviceOf(i *mountinfo.Info) uint64 {
	return unix.Mkdev(uint32(i.Major), uint32(i.Minor)) //nolint:gosec // G115: of the kernel
}

// whyWritable is the line that says why the file system could not be made read-only; empty for nil.
func whyWritable(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, unix.EBUSY):
		return "the volume's file system could not be made read-only again: a container has a file of it open for writing, " +
			"or has a removed file or folder of it open; restart that container"
	default:
		return fmt.Sprintf("the volume's file system could not be made read-only again: %v", err)
	}
}
