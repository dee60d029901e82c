package main

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/moby/sys/mountinfo"
)

// File is a file or folder of a volume as a container sees it. A folder has no data.
type File struct {
	Name string // relative to the requested folder
	Mode string // as ls has it: "-rw-r-----", "drwxr-s---"
	UID  uint32
	GID  uint32
	Data []byte
}

// Pairs counts reads of a certificate and its key, and how many did not match.
type Pairs struct {
	Read, Torn, Versions int64
	Problem              string
}

func hold(args []string) error {
	flags := flag.NewFlagSet("hold", flag.ContinueOnError)
	pair := flags.String("pair", "", "`CERT,KEY`: two files of one folder to read over and over")
	volume := flags.String("volume", "", "`folder` of the volume whose changes SIGHUP reports")
	if err := flags.Parse(args); err != nil {
		return err
	}
	// A unique text of this process, and the node's clock.
	started := fmt.Sprintf("%s %d", rand.Text(), time.Now().UnixNano())

	mux := http.NewServeMux()
	mux.HandleFunc("GET /started", answer(func(*http.Request) (string, error) { return started, nil }))
	mux.HandleFunc("GET /files", answer(func(r *http.Request) ([]File, error) { return files(r.FormValue("dir")) }))
	mux.HandleFunc("GET /mounts", answer(func(r *http.Request) ([]*mountinfo.Info, error) {
		return mountsBelow("/proc/self/mountinfo", r.FormValue("dir"))
	}))
	mux.HandleFunc("GET /env", answer(func(r *http.Request) (string, error) { return os.Getenv(r.FormValue("name")), nil }))
	mux.HandleFunc("GET /attack", answer(func(r *http.Request) ([]string, error) { return attack(r.FormValue("dir")), nil }))
	mux.HandleFunc("GET /remount", answer(func(r *http.Request) (Remount, error) { return tryRemount(r.FormValue("dir")) }))
	mux.HandleFunc("GET /write", answer(func(r *http.Request) (string, error) { return write(r.FormValue("dir")), nil }))
	if cert, key, ok := strings.Cut(*pair, ","); ok {
		var loop pairLoop
		go loop.run(cert, key)
		mux.HandleFunc("GET /pairs", answer(func(*http.Request) (Pairs, error) { return loop.seen(), nil }))
	}
	var hangups hangups
	if *volume != "" {
		hangups.listen(*volume)
	}
	mux.HandleFunc("GET /self", answer(func(*http.Request) (Self, error) {
		return Self{PID: os.Getpid(), Environment: os.Environ(), Hangups: hangups.seen()}, nil
	}))
	return listen(mux)
}

// files reads all names except those that begin with two dots.
func files(dir string) ([]File, error) {
	found := []File{}
	var walk func(name string) error
	walk = func(name string) error {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path) //nolint:gosec // G703: whatever folder the test asks for
		if err != nil {
			return err
		}
		owner, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return errors.ErrUnsupported
		}
		file := File{Name: name, Mode: info.Mode().String(), UID: owner.Uid, GID: owner.Gid}
		if info.IsDir() {
			found = append(found, file)
			entries, err := os.ReadDir(path)
			if err != nil {
				return err
			}
			for _, entry := range entries {
				if strings.HasPrefix(entry.Name(), "..") {
					continue
				}
				if err := walk(filepath.Join(name, entry.Name())); err != nil {
					return err
				}
			}
			return nil
		}
		if file.Data, err = os.ReadFile(path); err != nil { //nolint:gosec // G304: see above
			return err
		}
		found = append(found, file)
		return nil
	}
	return found, walk(".")
}

// mountsBelow returns the entries of a mountinfo file whose mount point is the folder or below it.
func mountsBelow(file, dir string) ([]*mountinfo.Info, error) {
	table, err := os.Open(file) //nolint:gosec // G304: of which process, the caller says
	if err != nil {
		return nil, err
	}
	defer func() { _ = table.Close() }()
	return mountinfo.GetMountsFromReader(table, mountinfo.PrefixFilter(dir))
}

// write returns the error of a write into a folder, or "written".
func write(dir string) string {
	if err := os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600); err != nil { //nolint:gosec // G703: see files
		return err.Error()
	}
	return "written"
}

// pairLoop reads two files of one set as docs/rotation.md describes: it resolves ..data once.
type pairLoop struct {
	read, torn, versions atomic.Int64
	problem              atomic.Pointer[string]
}

func (l *pairLoop) run(cert, key string) {
	last := ""
	again := time.NewTicker(time.Millisecond) // leaves the CPU to others
	for {
		folder, err := os.Readlink(filepath.Join(filepath.Dir(cert), "..data"))
		if err == nil {
			folder = filepath.Join(filepath.Dir(cert), folder)
			_, err = tls.LoadX509KeyPair(filepath.Join(folder, filepath.Base(cert)), filepath.Join(folder, filepath.Base(key)))
		}
		switch {
		case err == nil:
			l.read.Add(1)
			if folder != last {
				last = folder
				l.versions.Add(1)
			}
		case errors.Is(err, fs.ErrNotExist) && last != "":
			// The set was replaced between two reads; the next round reads the new set.
			if _, gone := os.Stat(folder); gone != nil {
				continue
			}
			fallthrough
		default:
			l.torn.Add(1)
			text := err.Error()
			l.problem.Store(&text)
		}
		<-again.C
	}
}

func (l *pairLoop) seen() Pairs {
	seen := Pairs{Read: l.read.Load(), Torn: l.torn.Load(), Versions: l.versions.Load()}
	if problem := l.problem.Load(); problem != nil {
		seen.Problem = *problem
	}
	return seen
}
