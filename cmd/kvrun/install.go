package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// install copies this program to the folder, for images that have no cp. The copy appears complete, also where there is an older one.
func install(folder string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("install to %s: %w", folder, err)
		}
	}()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer func() { _ = self.Close() }()
	part, err := os.CreateTemp(folder, ".kvrun-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(part.Name()) }() // it is gone after the rename
	_, err = io.Copy(part, self)
	err = errors.Join(err, part.Chmod(0o755), part.Close())
	if err != nil {
		return err
	}
	return os.Rename(part.Name(), filepath.Join(folder, "kvrun"))
}
