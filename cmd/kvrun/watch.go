package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// watch sends nil for each time that one of the volumes may have been replaced, and an error for a volume that can no longer be watched.
//
// The inotify watch is on the folder, whose inode is the same for every mount of the volume. So it also works on a read-only mount.
func watch(volumes []string, changes chan<- error) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("start to watch: %w", explain(err))
	}
	byWatch := map[int32]string{}
	for _, volume := range volumes {
		// A rename onto ..data is IN_MOVED_TO; IN_CREATE is for a link that was removed and made again.
		wd, err := unix.InotifyAddWatch(fd, volume, unix.IN_MOVED_TO|unix.IN_CREATE|unix.IN_ONLYDIR)
		if err != nil {
			_ = unix.Close(fd)
			return fmt.Errorf("watch %s: %w", volume, explain(err))
		}
		byWatch[int32(wd)] = volume //nolint:gosec // G115: the kernel's type is int32
	}
	go func() {
		events := os.NewFile(uintptr(fd), "inotify")
		buffer := make([]byte, 64<<10)
		for {
			n, err := events.Read(buffer)
			if err != nil {
				changes <- fmt.Errorf("the volumes are no longer watched: %w", err)
				return
			}
			for rest := buffer[:n]; len(rest) >= unix.SizeofInotifyEvent; {
				var e event
				e, rest = next(rest)
				switch {
				case e.mask&unix.IN_IGNORED != 0:
					changes <- fmt.Errorf("%s is no longer watched: it was unmounted or removed", byWatch[e.watch])
				case e.mask&unix.IN_Q_OVERFLOW != 0, e.name == dataLink:
					changes <- nil
				}
			}
		}
	}()
	return nil
}

// poll reports at each tick whether a volume has another set than the one seen before. A container in a virtual machine, as of Kata
// Containers, gets no events of a volume of its node.
func (all files) poll(seen []string, ticks <-chan time.Time, changes chan<- error) {
	for range ticks {
		if now, err := all.current(); err == nil && !slices.Equal(now, seen) {
			seen = now
			changes <- nil
		}
	}
}

// event is the used part of a struct inotify_event.
type event struct {
	watch int32
	mask  uint32
	name  string
}

// next reads the first event.
func next(data []byte) (e event, rest []byte) {
	number := binary.NativeEndian.Uint32
	end := unix.SizeofInotifyEvent + int(number(data[12:]))
	name, _, _ := bytes.Cut(data[unix.SizeofInotifyEvent:end], []byte{0})
	return event{watch: int32(number(data)), mask: number(data[4:]), name: string(name)}, data[end:] //nolint:gosec // G115: an int32 as bytes
}

// explain names the limit that an error of inotify is about.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EMFILE):
		return fmt.Errorf("%w; the node's limit fs.inotify.max_user_instances may be reached", err)
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("%w; the node's limit fs.inotify.max_user_watches is reached", err)
	}
	return err
}
