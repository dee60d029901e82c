package tmpfs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

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
	_, _, options, err := p.mountInfo()
	return err != nil || options != "ro" && !strings.HasPrefix(options, "ro,")
}

// errTable says that the mount is not in the mount table of this process.
var errTable = errors.New("the mount is not in the mount table")

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
