// Image makes an OCI image layout with an image of one static binary for each platform, and nothing else in them but the
// texts of the licenses. There is no builder, no base image and no network in it: equal files give equal digests.
//
//	image -name NAME -description TEXT -version v1.2.3 -revision COMMIT -created UNIX -user 0:0 -licenses FOLDER -o FOLDER
//	      linux/amd64=FILE linux/arm64=FILE
package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func main() {
	var s spec
	flag.StringVar(&s.name, "name", "", "`name` of the program, which is /NAME in the image")
	flag.StringVar(&s.description, "description", "", "`text` of the label")
	flag.StringVar(&s.version, "version", "dev", "`version` of the label")
	flag.StringVar(&s.revision, "revision", "unknown", "`commit` of the label")
	flag.StringVar(&s.user, "user", "65532:65532", "`UID:GID` of the process")
	created := flag.Int64("created", 0, "time of the image and its files, in `seconds` since 1970")
	flag.StringVar(&s.licenses, "licenses", "", "`folder` whose files are the image's /licenses")
	out := flag.String("o", "", "`folder` to make")
	flag.Parse()
	s.created = time.Unix(*created, 0).UTC()
	if err := run(s, *out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// spec is what the images of all platforms have in common.
type spec struct {
	name, description, version, revision, user, licenses string
	created                                              time.Time
}

func run(s spec, out string, binaries []string) error {
	if s.name == "" || s.licenses == "" || out == "" || len(binaries) == 0 {
		return errors.New("usage: image -name NAME -licenses FOLDER -o FOLDER OS/ARCH=FILE [OS/ARCH=FILE]")
	}
	index := mutate.IndexMediaType(v1.ImageIndex(empty.Index), types.OCIImageIndex)
	for _, pair := range binaries {
		name, file, ok := strings.Cut(pair, "=")
		if !ok {
			return fmt.Errorf("%q is not OS/ARCH=FILE", pair)
		}
		platform, err := v1.ParsePlatform(name)
		if err != nil {
			return err
		}
		image, err := s.image(*platform, file)
		if err != nil {
			return err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: platform}})
	}
	// Annotations are of the index, labels of each image: tools read one or the other.
	annotated, ok := mutate.Annotations(index, s.labels()).(v1.ImageIndex)
	if !ok {
		return errors.New("the annotated index is no index")
	}
	_, err := layout.Write(out, annotated)
	return err
}

// image is that of one platform.
func (s spec) image(platform v1.Platform, binary string) (v1.Image, error) {
	content, err := s.pack(binary)
	if err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
	layer, err := tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.Append(base, mutate.Addendum{Layer: layer, History: v1.History{Created: v1.Time{Time: s.created}, CreatedBy: "tools/release/image"}})
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant = platform.OS, platform.Architecture, platform.Variant
	config.Created = v1.Time{Time: s.created}
	config.Config = v1.Config{Entrypoint: []string{"/" + s.name}, User: s.user, Labels: s.labels()}
	return mutate.ConfigFile(image, config)
}

// labels are the annotations of the OCI image specification, which tools show.
func (s spec) labels() map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":       s.name,
		"org.opencontainers.image.description": s.description,
		"org.opencontainers.image.version":     s.version,
		"org.opencontainers.image.revision":    s.revision,
		"org.opencontainers.image.created":     s.created.Format(time.RFC3339),
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.source":      "https://github.com/keyvault-csi/keyvault-csi",
	}
}

// pack makes the only layer.
func (s spec) pack(binary string) ([]byte, error) {
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := s.add(w, s.name, 0o755, binary); err != nil {
		return nil, err
	}
	texts, err := os.ReadDir(s.licenses) // sorted
	if err != nil {
		return nil, err
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "licenses/", Mode: 0o755, ModTime: s.created}); err != nil {
		return nil, err
	}
	for _, text := range texts {
		if err := s.add(w, "licenses/"+text.Name(), 0o644, filepath.Join(s.licenses, text.Name())); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil { // which writes the end
		return nil, err
	}
	return layer.Bytes(), nil
}

func (s spec) add(w *tar.Writer, name string, mode int64, file string) error {
	data, err := os.ReadFile(file) //nolint:gosec // G304: the caller says which
	if err != nil {
		return err
	}
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(data)), ModTime: s.created}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}
