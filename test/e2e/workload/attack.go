package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// attack tries every change of the volume at dir, or a folder of it, with the file password. It returns those that did not fail with EROFS.
//
//nolint:gosec // G302, G703: whatever folder the test asks for, and all of it must fail
func attack(dir string) []string {
	file, set, planted := filepath.Join(dir, "password"), filepath.Join(dir, "..data"), filepath.Join(dir, "planted")
	if _, err := os.Lstat(set); err != nil {
		set = file // a folder of the volume, mounted by subPath
	}
	return notRefused(syscall.EROFS, []attempt{
		{"create", os.WriteFile(planted, nil, 0o600)},
		{"overwrite", os.WriteFile(file, []byte("FORGED"), 0o600)},
		{"truncate", os.Truncate(file, 0)},
		{"chmod", os.Chmod(file, 0o777)},
		{"chown", os.Chown(file, os.Getuid(), os.Getgid())},
		{"chtimes", os.Chtimes(set, time.Now(), time.Now().AddDate(70, 0, 0))},
		{"mkdir", os.Mkdir(planted, 0o700)},
		{"mkfifo", syscall.Mkfifo(planted, 0o600)},
		{"symlink", os.Symlink("/etc", planted)},
		{"link", os.Link(file, planted)},
		{"unlink", os.Remove(file)},
		{"rename", os.Rename(set, planted)},
		{"setxattr", syscall.Setxattr(file, "user.planted", []byte("x"), 0)},
	})
}

// Remount is the attempts to make a volume writable that did not fail with EPERM.
type Remount struct {
	Allowed     []string // in the container
	AsOwner     []string // in a new user and mount namespace, with all capabilities there
	NoNamespace string   // the reason why there is no such namespace, which is as good as EPERM
}

func tryRemount(dir string) (tried Remount, err error) {
	tried.Allowed = remount(dir)
	command := exec.CommandContext(context.Background(), "/proc/self/exe", "remount", dir) //nolint:gosec // G204: itself
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := command.Output()
	switch {
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EINVAL):
		tried.NoNamespace = err.Error()
		return tried, nil
	case err != nil:
		return tried, err
	}
	return tried, json.Unmarshal(out, &tried.AsOwner)
}

// remount tries to make the mount at dir writable, and its file system.
func remount(dir string) []string {
	return notRefused(syscall.EPERM, []attempt{
		{"remount the mount", syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_BIND, "")},
		{"remount the file system", syscall.Mount("", dir, "", syscall.MS_REMOUNT, "")},
	})
}

// attempt is an attempt and its result.
type attempt struct {
	what string
	err  error
}

// notRefused returns the attempts without this error.
func notRefused(want syscall.Errno, attempts []attempt) []string {
	allowed := []string{}
	for _, try := range attempts {
		if !errors.Is(try.err, want) {
			allowed = append(allowed, fmt.Sprintf("%s: %v", try.what, try.err))
		}
	}
	return allowed
}
