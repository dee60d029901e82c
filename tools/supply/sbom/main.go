// Sbom writes the software bill of materials of a Go binary in the CycloneDX format, from what the linker wrote into the
// binary itself: the list that `go version -m` shows. Nothing is looked up, so what is in the binary and what is in the
// file cannot differ, and equal binaries give equal files: there is no time in it, and the serial number is made from
// the binary's hash.
//
//	sbom -version v1.2.3 [-licenses FILE] -o FILE BINARY
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

func main() {
	version := flag.String("version", "dev", "`version` of the binary, which the linker does not know")
	licenses := flag.String("licenses", "", "`file` that go-licenses report wrote: import path, URL, SPDX id")
	out := flag.String("o", "", "`file` to write")
	flag.Parse()
	if err := run(*version, *licenses, *out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(version, licenses, out string, args []string) error {
	if out == "" || len(args) != 1 {
		return errors.New("usage: sbom -version VERSION [-licenses FILE] -o FILE BINARY")
	}
	known, err := readLicenses(licenses)
	if err != nil {
		return err
	}
	bom, err := describe(args[0], version, known)
	if err != nil {
		return err
	}
	file, err := os.Create(out) //nolint:gosec // G304: the caller says where
	if err != nil {
		return err
	}
	if err := cdx.NewBOMEncoder(file, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).EncodeVersion(bom, cdx.SpecVersion1_6); err != nil {
		return errors.Join(err, file.Close())
	}
	return file.Close()
}

// describe reads the binary.
func describe(binary, version string, licenses map[string]string) (*cdx.BOM, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	content, err := os.ReadFile(binary) //nolint:gosec // G304: the caller says which
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256(content)
	main := module(info.Main.Path, version, "", licenses)
	main.Type, main.Name = cdx.ComponentTypeApplication, filepath.Base(binary)
	main.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(hash[:])}}
	main.Properties = settings(info.Settings)

	goVersion := strings.TrimPrefix(info.GoVersion, "go")
	library := cdx.Component{
		BOMRef: "pkg:golang/stdlib@" + goVersion, PackageURL: "pkg:golang/stdlib@" + goVersion,
		Type: cdx.ComponentTypeLibrary, Name: "stdlib", Version: goVersion, Licenses: licensed("BSD-3-Clause"),
	}
	components, refs := []cdx.Component{library}, []string{library.BOMRef}
	for _, dep := range info.Deps {
		switch {
		case dep.Replace != nil && dep.Replace.Version == "(devel)": // by a folder of this repository: of the same commit
			dep = &debug.Module{Path: dep.Path, Version: version}
		case dep.Replace != nil:
			dep = dep.Replace
		}
		c := module(dep.Path, dep.Version, dep.Sum, licenses)
		components, refs = append(components, c), append(refs, c.BOMRef)
	}
	bom := cdx.NewBOM()
	bom.SerialNumber = serial(hash)
	bom.Metadata = &cdx.Metadata{Component: &main}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: main.BOMRef, Dependencies: &refs}}
	return bom, nil
}

// module describes one as the package URL specification names it.
func module(path, version, sum string, licenses map[string]string) cdx.Component {
	purl := "pkg:golang/" + path + "@" + version + "?type=module"
	c := cdx.Component{
		BOMRef: purl, PackageURL: purl, Type: cdx.ComponentTypeLibrary, Name: path, Version: version,
		Licenses: licensed(licenses[path]),
	}
	if sum != "" {
		c.Properties = &[]cdx.Property{{Name: "go:sum", Value: sum}} // of the module's files, as go.sum has it
	}
	return c
}

func licensed(id string) *cdx.Licenses {
	if id == "" {
		return nil
	}
	return &cdx.Licenses{{License: &cdx.License{ID: id}}}
}

// settings are how the binary was built.
func settings(all []debug.BuildSetting) *[]cdx.Property {
	var properties []cdx.Property
	for _, s := range all {
		properties = append(properties, cdx.Property{Name: "go:build:" + s.Key, Value: s.Value})
	}
	return &properties
}

// serial is a UUID of version 8 (RFC 9562, section 5.8): custom, here from the hash.
func serial(hash [sha256.Size]byte) string {
	u := hash[:16]
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// readLicenses gives the license of each module. The file lists packages. A module has the license of its package with the
// shortest path. A package with a license of its own, as a few modules contain, is only in the notices.
func readLicenses(file string) (map[string]string, error) {
	licenses := map[string]string{}
	if file == "" {
		return licenses, nil
	}
	f, err := os.Open(file) //nolint:gosec // G304: the caller says which
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	from := map[string]string{}
	for rows := csv.NewReader(f); ; {
		row, err := rows.Read()
		switch {
		case errors.Is(err, io.EOF):
			return licenses, nil
		case err != nil:
			return nil, err
		case len(row) != 3:
			return nil, fmt.Errorf("%s: %d fields in a row, want 3", file, len(row))
		}
		for path := row[0]; path != "."; path = filepath.Dir(path) {
			if shortest, ok := from[path]; !ok || len(row[0]) < len(shortest) {
				from[path], licenses[path] = row[0], row[2]
			}
		}
	}
}
