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
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// What is in the vaults. The objects of shop, pay and edge are always there; of bulk's, those called extra come and go.
const (
	bulk         = "bulk"
	plainSecrets = 8 // of each vault: app-0, …
	certificates = 2 // of each vault but bulk: web-0, …
	extras       = 3 // of bulk: extra-0, …
)

// fullVaults have certificates.
var fullVaults = []string{node.VaultName, "pay", "edge"} //nolint:gochecknoglobals // a constant

// shape is a kind of volume: what it asks for, and where what it shows comes from.
type shape struct {
	name       string
	attributes func(vault string) map[string]string
	principal  bool // logs in as the service principal instead of the pod's service account
	group      bool // has an fsGroup
	// files are what a complete set of it holds.
	files func(vault string) []output
}

// output is a file of a set, or several that belong together.
type output struct {
	vault, object string
	path          string
	mode          fs.FileMode // 0: the default
	certificate   bool        // path is a folder with all outputs of a certificate
	legacy        bool        // with certificate: path is the predecessor's file name
	optional      bool
}

func shapes() []shape {
	app := func(vault string, from, to int, folder string) (files []output) {
		for i := from; i < to; i++ {
			files = append(files, output{vault: vault, object: fmt.Sprint("app-", i), path: filepath.Join(folder, fmt.Sprint("app-", i))})
		}
		return files
	}
	allOutputs := func(name, folder string) string {
		return fmt.Sprintf("- {certificate: %s, cert: %[2]s/cert, chain: %[2]s/chain, ca: %[2]s/ca, key: %[2]s/key, pem: %[2]s/pem, pfx: %[2]s/pfx}\n", name, folder)
	}
	several := func(vault string) map[string]string {
		return map[string]string{"vault": vault, "objects": "- {secret: app-2, path: a/deep/one, mode: '0440'}\n" +
			allOutputs("web-0", "tls") + "- {secret: app-3, path: a/other}\n"}
	}
	severalFiles := func(vault string) []output {
		return []output{
			{vault: vault, object: "app-2", path: "a/deep/one", mode: 0o440},
			{vault: vault, object: "web-0", path: "tls", certificate: true},
			{vault: vault, object: "app-3", path: "a/other"},
		}
	}
	return []shape{
		{
			name: "the predecessor's grammar",
			attributes: func(vault string) map[string]string {
				return map[string]string{"vault": vault, "secrets": "app-0;app-1;app-2"}
			},
			files: func(vault string) []output { return app(vault, 0, 3, "secrets") },
		},
		{
			name: "the predecessor's certificate",
			attributes: func(vault string) map[string]string {
				return map[string]string{"vault": vault, "secrets": "web-1;app-4"}
			},
			files: func(vault string) []output {
				return append(app(vault, 4, 5, "secrets"), output{vault: vault, object: "web-1", path: "web-1", certificate: true, legacy: true})
			},
		},
		{
			name:       "every secret of a vault",
			attributes: func(string) map[string]string { return map[string]string{"vault": bulk, "secrets": "*"} },
			files: func(string) []output {
				files := app(bulk, 0, plainSecrets, "secrets")
				for i := range extras {
					name := fmt.Sprint("extra-", i)
					files = append(files, output{vault: bulk, object: name, path: "secrets/" + name, optional: true})
				}
				return files
			},
		},
		{name: "several outputs of an object", attributes: several, files: severalFiles},
		{name: "a service principal", attributes: several, files: severalFiles, principal: true},
		{name: "an fsGroup", attributes: several, files: severalFiles, group: true},
		{
			name: "a selection",
			attributes: func(vault string) map[string]string {
				return map[string]string{"vault": vault, "objects": "- {secrets: {prefix: app-}, path: all}\n"}
			},
			files: func(vault string) []output { return app(vault, 0, plainSecrets, "all") },
		},
		{
			name: "two vaults, one object optional",
			attributes: func(vault string) map[string]string {
				return map[string]string{"vault": vault, "objects": "- secret: app-6\n- {secret: app-7, vault: " + bulk + ", path: bulk/app-7}\n" +
					"- {secret: extra-0, vault: " + bulk + ", path: bulk/extra, optional: true}\n"}
			},
			files: func(vault string) []output {
				return []output{
					{vault: vault, object: "app-6", path: "app-6"},
					{vault: bulk, object: "app-7", path: "bulk/app-7"},
					{vault: bulk, object: "extra-0", path: "bulk/extra", optional: true},
				}
			},
		},
	}
}

// volume is a pod's volume of this shape.
func (s shape) volume(name, vault string) kubelet.Volume {
	v := kubelet.Volume{
		Name: name, Namespace: node.Namespace, ServiceAccount: node.ServiceAccount,
		Attributes: map[string]string{"rotationInterval": interval.String()},
	}
	maps.Copy(v.Attributes, s.attributes(vault))
	if s.principal {
		v.Secret = map[string]string{"clientid": node.PrincipalID, "clientsecret": node.PrincipalSecret}
	} else {
		v.Attributes["clientID"] = node.WorkloadID
	}
	if s.group {
		v.FSGroup = fsGroup
	}
	return v
}

// fsGroup of the volumes that have one.
const fsGroup = "1234"

// vaults that the volume reads.
func vaultsOf(files []output) []string {
	var names []string
	for _, f := range files {
		names = append(names, f.vault)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// sight is what a set shows of an object.
type sight struct {
	output
	content sum
}

// look reads one set, the folder that ..data points at, and says what it shows. The error is fs.ErrNotExist where
// something is missing; the caller knows whether the set was replaced meanwhile.
func look(set string, files []output, group bool) ([]sight, error) {
	var sights []sight
	expected := map[string]bool{}
	for _, f := range files {
		content, paths, err := f.read(set)
		switch {
		case f.optional && errors.Is(err, fs.ErrNotExist):
			content, paths = absent, nil
		case err != nil:
			return nil, err
		}
		sights = append(sights, sight{f, content})
		for path, mode := range paths {
			expected[path] = true
			if err := checkMode(filepath.Join(set, path), mode, group); err != nil {
				return nil, err
			}
		}
	}
	return sights, filepath.WalkDir(set, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if rel, _ := filepath.Rel(set, path); !expected[rel] {
			return fmt.Errorf("%s is a file that nobody asked for", rel)
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

// read gives what identifies the object's version, and the files that it stands in.
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

// readPair reads a certificate with its chain and its key, which must belong to each other; more are the other files of
// the same certificate.
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
		return fmt.Errorf("the key of %s is not that of the certificate beside it: two generations in one set", leaf.Subject)
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
	all := append([]*x509.Certificate{first}, others...) // in whatever order the vault has them
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
		return nil, fmt.Errorf("%s ends with something that is no PEM", path)
	}
	return blocks, nil
}
