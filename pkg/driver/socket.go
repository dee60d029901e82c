package driver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// socketListener listens on a socket that it removes at the end.
type socketListener struct {
	*net.UnixListener

	path  string
	file  fs.FileInfo // of the socket
	close sync.Once
}

// Close leaves the socket of another program that has taken the path meanwhile.
func (l *socketListener) Close() (err error) {
	l.close.Do(func() {
		if now, statErr := os.Lstat(l.path); statErr == nil && os.SameFile(now, l.file) {
			err = os.Remove(l.path)
		}
		err = errors.Join(l.UnixListener.Close(), err)
	})
	return err
}

// listenUnix listens on a socket that only this user can connect to. It replaces the socket of a dead process, and nothing
// else. Closing the listener removes the socket.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of the socket: %w", err)
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: ownerOnly}
	listener, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	socket := &socketListener{UnixListener: listener.(*net.UnixListener), path: path}
	if socket.file, err = os.Lstat(path); err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("looking for the new socket: %w", err)
	}
	socket.SetUnlinkOnClose(false)
	return socket, nil
}

// ownerOnly runs between socket(2) and bind(2), which gives the file the mode of the socket: it is 0600 from the start, and
// the umask of the process stays.
func ownerOnly(_, _ string, c syscall.RawConn) error {
	var chmod error
	err := c.Control(func(fd uintptr) { chmod = syscall.Fchmod(int(fd), 0o600) })
	return errors.Join(err, chmod)
}

// removeStale removes a socket on which no process listens any more.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("looking for an old socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is there and no socket; it has to be removed before the driver can listen there", path)
	}

	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = conn.Close()
		return fmt.Errorf("another process listens on %s; only one driver can", path)
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%s is there and cannot be tried: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("removing a stale socket: %w", err)
	}
	return nil
}
