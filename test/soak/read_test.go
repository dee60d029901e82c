package soak_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"software.sslmate.com/src/go-pkcs12"
)

// shownObject is an object in a set.
type shownObject struct {
	output
	content sum
}

// readSet reads one set, the folder that ..data points at, and returns its objects. The error is fs.ErrNotExist if something is missing,
// which is normal if the set was replaced meanwhile.
func readSet(set string, files []output, group bool) ([]shownObject, error) {
	var objects []shownObject
	expected := map[string]bool{}
	for _, f := range files {
		content, paths, err := f.read(set)
		switch {
		case f.optional && errors.Is(err, fs.ErrNotExist):
			content, paths = absent, nil
		case err != nil:
			return nil, err
		}
		objects = append(objects, shownObject{f, content})
		for path, mode := range paths {
			expected[path] = true
			if err := checkMode(filepath.Join(set, path), mode, group); err != nil {
				return nil, err
			}
		}
	}
	return objects, filepath.WalkDir(set, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if rel, _ := filepath.Rel(set, path); !expected[rel] {
			return fmt.Errorf("%s is not a file of the set", rel)
		}
		return nil
	})
}

func checkMode(path string, want fs.FileMode, group bool) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	switch {
	case want != 0:
	case group:
		want = 0o640
	default:
		want = 0o644
	}
	if got := info.Mode().Perm(); got != want {
		return fmt.Errorf("%s has the mode %04o, want %04o", path, got, want)
	}
	return nil
}

// read returns a hash of the object's version, and its files.
func (f output) read(set string) (content sum, paths map[string]fs.FileMode, err error) {
	if !f.certificate {
		value, err := os.ReadFile(filepath.Join(set, f.path))
		return sha256.Sum256(value), map[string]fs.FileMode{f.path: f.mode}, err
	}
	if f.legacy {
		return readPair(set, "certs/"+f.path, "keys/"+f.path, "secrets/"+f.path)
	}
	content, paths, err = readPair(set, f.path+"/chain", f.path+"/key", f.path+"/cert", f.path+"/ca", f.path+"/pem", f.path+"/pfx")
	if err != nil {
		return content, nil, err
	}
	return content, paths, readOthers(filepath.Join(set, f.path))
}

// readPair reads a certificate with its chain and its key, which must match; more are other files of the same certificate.
func readPair(set, chainPath, keyPath string, more ...string) (content sum, paths map[string]fs.FileMode, err error) {
	paths = map[string]fs.FileMode{chainPath: 0, keyPath: 0}
	for _, path := range more {
		paths[path] = 0
	}
	chain, err := readPEM(filepath.Join(set, chainPath), "CERTIFICATE")
	if err != nil {
		return content, nil, err
	}
	keys, err := readPEM(filepath.Join(set, keyPath), "PRIVATE KEY")
	if err != nil {
		return content, nil, err
	}
	if len(keys) != 1 || len(chain) != 3 {
		return content, nil, fmt.Errorf("%s and %s: %d certificates and %d keys, want leaf, intermediate and root, and one key", chainPath, keyPath, len(chain), len(keys))
	}
	return sha256.Sum256(chain[0]), paths, match(chain[0], keys[0])
}

func match(leafDER, keyDER []byte) error {
	leaf, err := x509.ParseCertificate(leafDER)
	if err != nil {
		return err
	}
	key, err := x509.ParsePKCS8PrivateKey(keyDER)
	if err != nil {
		return err
	}
	private, ok := key.(*ecdsa.PrivateKey)
	if !ok || !private.PublicKey.Equal(leaf.PublicKey) {
		return fmt.Errorf("the key of %s does not match its certificate: two generations in one set", leaf.Subject)
	}
	return nil
}

// readOthers compares the other outputs of a certificate with its chain and key.
func readOthers(folder string) error {
	text := map[string]string{}
	for _, name := range []string{"chain", "key", "cert", "ca", "pem", "pfx"} {
		b, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			return err
		}
		text[name] = string(b)
	}
	if text["pem"] != text["key"]+text["chain"] || text["chain"] != text["cert"]+text["ca"] {
		return fmt.Errorf("%s: the outputs of one certificate are of different generations", folder)
	}
	_, first, others, err := pkcs12.DecodeChain([]byte(text["pfx"]), "")
	if err != nil {
		return fmt.Errorf("%s/pfx: %w", folder, err)
	}
	leaf, _ := pem.Decode([]byte(text["cert"]))
	all := append([]*x509.Certificate{first}, others...) // in the vault's order, which may be any
	if leaf == nil || len(all) != 3 || !slices.ContainsFunc(all, func(c *x509.Certificate) bool { return bytes.Equal(c.Raw, leaf.Bytes) }) {
		return fmt.Errorf("%s: the PFX is not of the generation of the rest", folder)
	}
	return nil
}

func readPEM(path, kind string) (blocks [][]byte, err error) {
	rest, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != kind {
			return nil, fmt.Errorf("%s holds a %s, want %s", path, block.Type, kind)
		}
		blocks = append(blocks, block.Bytes)
	}
	if strings.TrimSpace(string(rest)) != "" {
		return nil, fmt.Errorf("%s ends with bytes that are not PEM", path)
	}
	return blocks, nil
}
