// Image packs static binaries into an image archive that `docker load`, `ctr images import` and `kind load
// image-archive` take. There is no base, no builder and no registry in it, and equal files give equal archives.
//
//	image -name example.com/x:tag -entrypoint /x -user 0:0 -o x.tar bin/x:/x [FILE:PATH]...
//
// A path without a file (:/tmp) is an empty folder for everybody.
package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strings"
	"time"
)

func main() {
	name := flag.String("name", "", "the image's `name` with its tag, as pods say it")
	out := flag.String("o", "", "`file` to write")
	entrypoint := flag.String("entrypoint", "", "`path` of the program to run")
	user := flag.String("user", "", "`UID:GID` of the process; empty: root")
	arch := flag.String("arch", runtime.GOARCH, "`architecture` of the binaries")
	flag.Parse()
	if err := run(*name, *out, *entrypoint, *user, *arch, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(name, out, entrypoint, user, arch string, files []string) error {
	if name == "" || out == "" || entrypoint == "" || len(files) == 0 {
		return errors.New("usage: image -name NAME:TAG -entrypoint PATH -o FILE FILE:PATH [FILE:PATH]")
	}
	layer, err := pack(files)
	if err != nil {
		return err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": arch,
		"os":           "linux",
		"created":      time.Unix(0, 0).UTC(),
		"config":       map[string]any{"Entrypoint": []string{entrypoint}, "User": user, "Env": []string{"PATH=/"}},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest(layer)}},
	})
	if err != nil {
		return err
	}
	configName := digest(config) + ".json"
	manifest, err := json.Marshal([]any{map[string]any{
		"Config": configName, "RepoTags": []string{name}, "Layers": []string{"layer.tar"},
	}})
	if err != nil {
		return err
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	err = errors.Join(
		add(w, configName, 0o644, config),
		add(w, "layer.tar", 0o644, layer),
		add(w, "manifest.json", 0o644, manifest),
		w.Close(),
	)
	if err != nil {
		return err
	}
	// Renamed into place, so that nobody ever loads half an image.
	if err := os.WriteFile(out+".new", archive.Bytes(), 0o644); err != nil { //nolint:gosec // an image is public
		return err
	}
	return os.Rename(out+".new", out)
}

// pack makes the only layer: the files with the folders above them.
func pack(files []string) ([]byte, error) {
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	folders := map[string]bool{".": true}
	folder := func(name string, mode int64) error {
		if folders[name] {
			return nil
		}
		folders[name] = true
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode, ModTime: time.Unix(0, 0)})
	}
	for _, pair := range files {
		from, to, ok := strings.Cut(pair, ":")
		if !ok {
			return nil, fmt.Errorf("%q is not FILE:PATH", pair)
		}
		to = strings.TrimPrefix(path.Clean(to), "/")
		for i, c := range to {
			if c != '/' {
				continue
			}
			if err := folder(to[:i], 0o755); err != nil {
				return nil, err
			}
		}
		if from == "" {
			if err := folder(to, 0o1777); err != nil {
				return nil, err
			}
			continue
		}
		if err := addFile(w, from, to); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil { // which writes the end
		return nil, err
	}
	return layer.Bytes(), nil
}

// addFile adds a file of the disk. Of its mode only whether it is a program counts, because the rest is the umask of who made it.
func addFile(w *tar.Writer, from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(from) //nolint:gosec // G304: the file to pack
	if err != nil {
		return err
	}
	mode := int64(0o644)
	if info.Mode()&0o100 != 0 {
		mode = 0o755
	}
	return add(w, to, mode, data)
}

func add(w *tar.Writer, name string, mode int64, data []byte) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(data)), ModTime: time.Unix(0, 0)}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.Copy(w, bytes.NewReader(data))
	return err
}

func digest(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }
