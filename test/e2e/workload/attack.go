package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// attack tries every way to change the volume at dir, which holds the file password, and gives those that were not refused with EROFS.
//
//nolint:gosec // G302, G703: whatever folder the test asks for, and all of it must fail
func attack(dir string) []string {
	file, set := filepath.Join(dir, "password"), filepath.Join(dir, "..data")
	allowed := []string{}
	for _, try := range []struct {
		what string
		err  error
	}{
		{"create", os.WriteFile(filepath.Join(dir, "planted"), nil, 0o600)},
		{"overwrite", os.WriteFile(file, []byte("FORGED"), 0o600)},
		{"truncate", os.Truncate(file, 0)},
		{"chmod", os.Chmod(file, 0o777)},
		{"chtimes", os.Chtimes(set, time.Now(), time.Now().AddDate(70, 0, 0))},
		{"mkdir", os.Mkdir(filepath.Join(set, "planted"), 0o700)},
		{"symlink", os.Symlink("/etc", filepath.Join(dir, "planted"))},
		{"unlink", os.Remove(file)},
		{"rename", os.Rename(set, filepath.Join(dir, "planted"))},
		{"setxattr", syscall.Setxattr(file, "trusted.planted", []byte("x"), 0)},
	} {
		if !errors.Is(try.err, syscall.EROFS) {
			allowed = append(allowed, fmt.Sprintf("%s: %v", try.what, try.err))
		}
	}
	return allowed
}
