package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A node can be out of inotify instances: they are counted by user, and many pods have uid 65534. Then the files are read periodically.
func TestWithoutInotify(t *testing.T) {
	t.Parallel()
	const inside = "KEYVAULT_CSI_SYNC_WITHOUT_INOTIFY"
	if os.Getenv(inside) != "" {
		runWithoutInotify(t)
		return
	}
	again := exec.Command(os.Args[0], "-test.run=^TestWithoutInotify$", "-test.v")
	again.Env = append(os.Environ(), inside+"=1")
	again.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := again.CombinedOutput()
	switch ended := new(exec.ExitError); {
	case err != nil && !errors.As(err, &ended):
		t.Skip("no user namespace can be had, in which nobody else needs inotify: ", err)
	case strings.Contains(string(out), "--- SKIP"):
		t.Skipf("the limit of inotify cannot be set: %s", out)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	}
}

func runWithoutInotify(t *testing.T) {
	t.Helper()
	folder := t.TempDir()
	for name, text := range map[string]string{
		"..set/file": "value", "secrets.yaml": "secrets: [{name: db, data: {key: file}}]", "kubeconfig": "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\n" +
			"contexts: [{name: x, context: {cluster: c}}]\ncurrent-context: x\n",
	} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("..set", filepath.Join(folder, "..data")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/proc/sys/user/max_inotify_instances", []byte("0"), 0o600); err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	log := endOn{text: "read the files", end: cancel}
	err := run(ctx, []string{
		"--namespace=shop", "--http-address=", "--volume=" + folder, "--config=" + filepath.Join(folder, "secrets.yaml"),
		"--kubeconfig=" + filepath.Join(folder, "kubeconfig"),
	}, &log, &log)
	if err != nil || !strings.Contains(log.String(), log.text) || !strings.Contains(log.String(), "fs.inotify.max_user_instances") {
		t.Errorf("%v\n%s", err, log.String())
	}
}

// endOn is a log that calls end when it has the text.
type endOn struct {
	bytes.Buffer

	text string
	end  func()
}

func (e *endOn) Write(line []byte) (int, error) {
	n, err := e.Buffer.Write(line)
	if strings.Contains(e.String(), e.text) {
		e.end()
	}
	return n, err
}
