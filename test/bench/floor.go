package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// valueSize is the size of every secret and of every file of the floor.
const valueSize = 1024

// floor is the lower bound for a volume: a tmpfs with files that is mounted and unmounted by plain system calls, without the guarantees of
// a volume, such as complete sets and read-only mounts.
type floor struct {
	target string
	paths  []string
	data   []byte
}

func newFloor(files int) (*floor, error) {
	target, err := os.MkdirTemp("", "floor")
	if err != nil {
		return nil, err
	}
	f := &floor{target: target, data: bytes.Repeat([]byte("x"), valueSize)}
	for i := range files {
		f.paths = append(f.paths, filepath.Join(target, fmt.Sprint("file", i)))
	}
	return f, nil
}

// warm runs before step in each round. Other steps before have evicted the CPU caches, which would make the floor slower, and the driver
// look better in comparison.
func (f *floor) warm(ctx context.Context) error { return f.step(ctx) }

func (f *floor) step(context.Context) error {
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("tmpfs", f.target, "tmpfs", flags, "size=1m,nr_inodes=100,mode=0755"); err != nil {
		return fmt.Errorf("floor: mount: %w", err)
	}
	for _, path := range f.paths {
		if err := f.write(path); err != nil {
			return fmt.Errorf("floor: write: %w", err)
		}
	}
	if err := unix.Unmount(f.target, unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("floor: unmount: %w", err)
	}
	return nil
}

func (f *floor) write(path string) error {
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	if _, err := unix.Write(fd, f.data); err != nil {
		_ = unix.Close(fd)
		return err
	}
	return unix.Close(fd)
}
