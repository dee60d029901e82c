package tmpfs_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

func tenFiles(data string) volume.Content {
	c := volume.Content{Fetched: time.Now()}
	for i := range 10 {
		c.Files = append(c.Files, volume.File{Path: fmt.Sprint("file", i), Data: volume.NewSecret([]byte(strings.Repeat(data, 1024)))})
	}
	return c
}

// inMemory returns a folder on a tmpfs: the journal of a disk takes more time for the folder of a target than everything else.
func inMemory(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	mountTmpfs(b, dir)
	b.Cleanup(func() { detach(dir) })
	return dir
}

// BenchmarkFloor mounts and unmounts a tmpfs with ten files by bare system calls, with none of the guarantees.
func BenchmarkFloor(b *testing.B) {
	target, data := filepath.Join(inMemory(b), "mount"), []byte(strings.Repeat("x", 1024))
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		must(unix.Mkdir(target, 0o750))
		must(unix.Mount("tmpfs", target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=1m,nr_inodes=100,mode=0755"))
		for i := range 10 {
			fd, err := unix.Open(filepath.Join(target, fmt.Sprint("file", i)), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
			must(err)
			_, err = unix.Write(fd, data)
			must(err)
			must(unix.Close(fd))
		}
		must(unix.Unmount(target, unix.UMOUNT_NOFOLLOW))
		must(unix.Rmdir(target))
	}
}

func benchmark(b *testing.B, run func(b *testing.B, f fixture)) {
	b.Helper()
	b.Setenv("TMPDIR", inMemory(b)) // before the first TempDir of this benchmark, which is the parent of all others
	run(b, newFixture(b, tmpfs.Options{Now: time.Now}))
}

func BenchmarkPublishUnpublish(b *testing.B) {
	benchmark(b, func(b *testing.B, f fixture) {
		b.Helper()
		for c := tenFiles("x"); b.Loop(); {
			f.publish(b, c)
			if err := f.Unpublish(f.target); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkRotate(b *testing.B) {
	benchmark(b, func(b *testing.B, f fixture) {
		b.Helper()
		generations := []volume.Content{tenFiles("x"), tenFiles("y")}
		for i := 0; b.Loop(); i++ {
			f.publish(b, generations[i%2])
		}
	})
}

func BenchmarkUnchanged(b *testing.B) {
	benchmark(b, func(b *testing.B, f fixture) {
		b.Helper()
		for c := tenFiles("x"); b.Loop(); {
			f.publish(b, c)
		}
	})
}

func BenchmarkRefreshed(b *testing.B) {
	f := newFixture(b, tmpfs.Options{Now: time.Now})
	f.publish(b, tenFiles("x"))
	for b.Loop() {
		if _, published, err := f.Refreshed(f.target); !published || err != nil {
			b.Fatal(published, err)
		}
	}
}
