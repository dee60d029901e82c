package main

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/sys/mountinfo"

	"github.com/keyvault-csi/keyvault-csi/internal/aging"
)

// host is the node's root as its PID 1 sees it; the pod has hostPID and is privileged.
const host = "/proc/1/root"

func node() error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /mounts", answer(func(r *http.Request) ([]*mountinfo.Info, error) {
		return mountsBelow("/proc/1/mountinfo", r.FormValue("dir"))
	}))
	mux.HandleFunc("GET /list", answer(func(r *http.Request) ([]string, error) { return list(r.FormValue("dir")) }))
	mux.HandleFunc("GET /cgroups", answer(func(r *http.Request) ([]string, error) { return cgroups(r.FormValue("uid")) }))
	mux.HandleFunc("GET /process", answer(func(r *http.Request) ([]int, error) { return processes(r.FormValue("name")) }))
	mux.HandleFunc("GET /threads", answer(func(r *http.Request) (map[string]string, error) { return threads(r.FormValue("name")) }))
	mux.HandleFunc("GET /shown", answer(func(r *http.Request) (map[string]string, error) { return shown(r.FormValue("name")) }))
	mux.HandleFunc("GET /image", answer(func(r *http.Request) ([]string, error) { return image(r.FormValue("name")) }))
	mux.HandleFunc("GET /mode", answer(func(r *http.Request) (string, error) { return mode(r.FormValue("file")) }))
	mux.HandleFunc("GET /provider", answer(func(r *http.Request) (string, error) { return provider(r.Context(), r.FormValue("file")) }))
	mux.HandleFunc("POST /kill", answer(func(r *http.Request) ([]int, error) { return kill(r.FormValue("name")) }))
	mux.HandleFunc("GET /addresses", answer(func(*http.Request) ([]string, error) { return addresses() }))
	mux.HandleFunc("POST /replace", answer(func(r *http.Request) (string, error) { return "", replace(r.FormValue("file"), r.Body) }))
	mux.HandleFunc("POST /remove", answer(func(r *http.Request) (string, error) {
		return "", os.RemoveAll(filepath.Join(host, r.FormValue("dir"))) //nolint:gosec // G703: whatever the test made
	}))
	mux.HandleFunc("POST /age", answer(func(r *http.Request) (string, error) {
		age, err := time.ParseDuration(r.FormValue("age"))
		if err != nil {
			return "", err
		}
		// The kubelet's folder is mounted at its path on the node, because only a mount of the own namespace can be cloned.
		return "", aging.Set(r.FormValue("target"), time.Now().Add(-age))
	}))
	return listen(mux)
}

// list returns the names in a folder of the node; none if the folder does not exist.
func list(dir string) ([]string, error) {
	names := []string{}
	entries, err := os.ReadDir(filepath.Join(host, dir))
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names, nil
}

// replace replaces or creates a file by a rename. The content is a JSON string.
func replace(file string, body io.Reader) error {
	var content string
	if err := json.NewDecoder(body).Decode(&content); err != nil {
		return err
	}
	file = filepath.Join(host, file)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil { //nolint:gosec // G301: as /etc/kubernetes is
		return err
	}
	if err := os.WriteFile(file+".new", []byte(content), 0o600); err != nil { //nolint:gosec // G703: whatever file the test wants
		return err
	}
	return os.Rename(file+".new", file) //nolint:gosec // G703: see above
}

// addresses returns the node's IPv4 addresses, from its routing table.
func addresses() ([]string, error) {
	table, err := os.ReadFile("/proc/1/net/fib_trie")
	if err != nil {
		return nil, err
	}
	var found []string
	address := ""
	for line := range strings.Lines(string(table)) {
		line = strings.TrimSpace(line)
		if next, ok := strings.CutPrefix(line, "|-- "); ok {
			address = next
		} else if line == "/32 host LOCAL" && !slices.Contains(found, address) {
			found = append(found, address)
		}
	}
	return found, nil
}

// cgroups returns the cgroups of a pod. The systemd driver writes its UID with underscores.
func cgroups(uid string) ([]string, error) {
	found := []string{}
	err := filepath.WalkDir(filepath.Join(host, "sys/fs/cgroup"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // one that goes away while we look is no longer of interest
		}
		if entry.IsDir() && strings.Contains(strings.ReplaceAll(entry.Name(), "_", "-"), uid) {
			found = append(found, strings.TrimPrefix(path, host))
			return fs.SkipDir
		}
		return nil
	})
	return found, err
}

// processes finds processes of the node by their command's name, of which the kernel keeps 15 bytes.
func processes(name string) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	found := []int{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		comm, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "comm"))
		if err == nil && strings.TrimSpace(string(comm)) == name[:min(len(name), 15)] {
			found = append(found, pid)
		}
	}
	return found, nil
}

// kill kills processes with SIGKILL.
func kill(name string) ([]int, error) {
	found, err := processes(name)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no process %s", name)
	}
	for _, pid := range found {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return nil, err
		}
	}
	return found, nil
}
