package driver

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
)

func TestSocket(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		prepare func(t *testing.T, path string)
		want    string // of the error, with PATH; empty means that the driver serves
	}{
		"nothing":   {prepare: func(*testing.T, string) {}},
		"no folder": {prepare: func(t *testing.T, path string) { _ = os.Remove(filepath.Dir(path)) }},
		"stale": {prepare: func(t *testing.T, path string) {
			l := listenOn(t, path)
			l.SetUnlinkOnClose(false)
			_ = l.Close()
		}},
		"live": {
			prepare: func(t *testing.T, path string) {
				l := listenOn(t, path)
				t.Cleanup(func() { _ = l.Close() })
			},
			want: "another process listens on PATH; only one driver can",
		},
		"file": {
			prepare: func(t *testing.T, path string) {
				if err := os.WriteFile(path, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			},
			want: "PATH is there and no socket; it has to be removed before the driver can listen there",
		},
		"dangling link": {
			prepare: func(t *testing.T, path string) {
				if err := os.Symlink("/nowhere", path); err != nil {
					t.Fatal(err)
				}
			},
			want: "PATH is there and no socket; it has to be removed before the driver can listen there",
		},
		"folder is a file": {
			prepare: func(t *testing.T, path string) {
				_ = os.Remove(filepath.Dir(path))
				if err := os.WriteFile(filepath.Dir(path), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			},
			want: "making the folder of the socket: mkdir DIR: not a directory",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(shortDir(t), "csi")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "csi.sock")
			tc.prepare(t, path)

			h := newHarness(t, newFakes(), func(c *Config) { c.Endpoint = "unix://" + path })
			if tc.want != "" {
				d, err := New(h.config)
				if err != nil {
					t.Fatal(err)
				}
				want := strings.NewReplacer("PATH", path, "DIR", dir).Replace(tc.want)
				if got := text(d.Run(silent(t))); got != want {
					t.Errorf("Run = %q, want %q", got, want)
				}
				return
			}

			h.start(t)
			if _, err := h.identity.Probe(t.Context(), &csi.ProbeRequest{}); err != nil {
				t.Error(err)
			}
			if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeSocket|0o600 {
				t.Errorf("the socket is %v, %v, want Srw-------", info.Mode(), err)
			}
			if info, err := os.Stat(dir); name == "no folder" && (err != nil || info.Mode() != fs.ModeDir|0o700) {
				t.Errorf("the folder is %v, %v, want drwx------", info.Mode(), err)
			}
			if err := h.stop(); err != nil {
				t.Errorf("Run = %v, want nil", err)
			}
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("after Run the socket is still there: %v", err)
			}
		})
	}
}

func listenOn(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	return l
}
