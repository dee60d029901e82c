// Package config reads the one file that says which Secrets keyvault-csi-sync keeps, and from which files of its volume.
//
// It checks everything that can be known without the files and without the API server, and reports all problems at once, each with its
// position. It must not know either of them.
package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The types of Secrets that can be kept. A type is here if keyvault-csi-sync knows what a Secret of it must hold. The type
// kubernetes.io/service-account-token must never be: Kubernetes writes a token into such a Secret.
const (
	Opaque           = "Opaque"
	TLS              = "kubernetes.io/tls"
	DockerConfigJSON = "kubernetes.io/dockerconfigjson"
	BasicAuth        = "kubernetes.io/basic-auth"
	SSHAuth          = "kubernetes.io/ssh-auth"
)

// MarkPrefix is the prefix of the labels and annotations that keyvault-csi-sync itself sets.
const MarkPrefix = "sync.keyvault-csi.io/"

// Config is the file.
type Config struct {
	// Secrets are the Secrets to keep, in the order of the file.
	Secrets []Secret `yaml:"secrets"`
	// Prune deletes Secrets that keyvault-csi-sync made and that are not in Secrets any more.
	Prune bool `yaml:"prune"`
}

// Secret is a Secret to keep.
type Secret struct {
	Name string `yaml:"name" json:"name"`
	// Type is Opaque if the file has none.
	Type        string            `yaml:"type" json:"type"`
	Labels      map[string]string `yaml:"labels" json:"labels,omitempty"`
	Annotations map[string]string `yaml:"annotations" json:"annotations,omitempty"`
	// Adopt takes over a Secret of this name that somebody else made.
	Adopt bool `yaml:"adopt" json:"-"`
	// Data has for each key of the Secret the path of its file in the volume.
	Data map[string]string `yaml:"data" json:"data"`
}

// Digest identifies what the file says about the Secret. It depends on no value.
func (s Secret) Digest() string {
	text, _ := json.Marshal(s) // strings and maps of strings: it cannot fail
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// Parse reads the file. Its error lists all problems, one a line.
func Parse(text []byte) (Config, error) {
	var c Config
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	switch err := decoder.Decode(&c); {
	case errors.Is(err, io.EOF): // an empty file is an empty list
	case err != nil:
		return Config{}, fmt.Errorf("the configuration is not valid: %s", strings.ReplaceAll(err.Error(), "\n", " "))
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return Config{}, errors.New("the configuration is not valid: it has more than one YAML document; put all Secrets into one list")
	}
	var p problems
	seen := map[string]int{}
	for i := range c.Secrets {
		s := &c.Secrets[i]
		at := fmt.Sprintf("secrets[%d]", i)
		if s.Type == "" {
			s.Type = Opaque
		}
		if first, ok := seen[s.Name]; ok && s.Name != "" {
			p.addf("%s.name: %q is also secrets[%d]; write one entry with all keys", at, s.Name, first)
		}
		seen[s.Name] = i
		p.checkSecret(at, *s)
	}
	return c, p.err()
}
