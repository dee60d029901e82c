package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// only returns the /proc folder of the only process of the node with this name, or of this process without a name.
func only(name string) (proc string, err error) {
	if name == "" {
		return "/proc/self", nil
	}
	found, err := processes(name)
	if err == nil && len(found) != 1 {
		err = fmt.Errorf("the processes %s are %v, want one", name, found)
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("/proc/%d", found[0]), nil
}

// threads returns the /proc status of each thread of a process.
func threads(name string) (map[string]string, error) {
	proc, err := only(name)
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(proc + "/task/*/status")
	if err != nil {
		return nil, err
	}
	status := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // G304: of /proc
		if err == nil {                // otherwise it has just ended
			status[filepath.Base(filepath.Dir(file))] = string(text)
		}
	}
	return status, nil
}

// shown returns other /proc files of a process.
func shown(name string) (map[string]string, error) {
	proc, err := only(name)
	if err != nil {
		return nil, err
	}
	texts := map[string]string{}
	for _, file := range []string{"cmdline", "environ", "limits"} {
		text, err := os.ReadFile(filepath.Join(proc, file)) //nolint:gosec // G304: of /proc
		if err != nil {
			return nil, err
		}
		texts[file] = string(text)
	}
	return texts, nil
}

// image returns the files of a process's root on the same device: the files of the image and written files, without mounts.
func image(name string) ([]string, error) {
	proc, err := only(name)
	if err != nil {
		return nil, err
	}
	root := filepath.Join(proc, "root")
	var top syscall.Stat_t
	if err := syscall.Stat(root, &top); err != nil {
		return nil, err
	}
	files := []string{}
	err = filepath.WalkDir(root+"/", func(path string, entry fs.DirEntry, err error) error { //nolint:gosec // G703: of /proc
		if err != nil {
			return err
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			return err
		}
		switch {
		case st.Dev != top.Dev && entry.IsDir():
			return fs.SkipDir
		case st.Dev == top.Dev && !entry.IsDir():
			files = append(files, path[len(root):])
		}
		return nil
	})
	return files, err
}

// mode returns the mode of a file of the node in the format of ls(1), and its owner.
func mode(file string) (string, error) {
	info, err := os.Lstat(filepath.Join(host, file)) //nolint:gosec // G703: whatever file the test wants
	if err != nil {
		return "", err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", fmt.Errorf("%s has no owner", file)
	}
	return fmt.Sprintf("%s %d:%d", info.Mode(), st.Uid, st.Gid), nil
}
