// Package secret decides what a Secret must hold, and what has to be done about the one that is there.
//
// It is pure: it reads no files and asks no API server, and it returns no value of a Secret in an error.
package secret

import (
	"bytes"
	"fmt"
	"time"

	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/config"
	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/fileset"
)

// The marks of a Secret that is kept.
const (
	// NameLabel names the keyvault-csi-sync that keeps the Secret.
	NameLabel = config.MarkPrefix + "name"
	// AdoptedAnnotation is "true" if somebody else made the Secret, and "false" if keyvault-csi-sync did. Only with "false" it may be deleted.
	AdoptedAnnotation = config.MarkPrefix + "adopted"
	// VersionAnnotation is the time when the values were fetched from the vault.
	VersionAnnotation = config.MarkPrefix + "version"
	// ConfigAnnotation identifies the entry of the configuration from which the Secret was made.
	ConfigAnnotation = config.MarkPrefix + "config"
)

// Values are the values of a Secret by their keys. Printed they are [redacted].
type Values map[string][]byte

// String returns [redacted].
func (Values) String() string { return "[redacted]" }

// GoString returns [redacted].
func (v Values) GoString() string { return v.String() }

// Format prints [redacted] for every verb.
func (v Values) Format(f fmt.State, _ rune) { fmt.Fprint(f, v.String()) }

// Secret is the used part of a Secret, as the API server reads and writes it.
type Secret struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   Metadata `json:"metadata"`
	Type       string   `json:"type,omitempty"`
	Immutable  bool     `json:"immutable,omitempty"`
	Data       Values   `json:"data,omitempty"`
}

// Metadata is the used part of the metadata of an object.
type Metadata struct {
	Name              string            `json:"name"`
	UID               string            `json:"uid,omitempty"`
	ResourceVersion   string            `json:"resourceVersion,omitempty"`
	DeletionTimestamp string            `json:"deletionTimestamp,omitempty"`
	Labels            map[string]string `json:"labels,omitempty"`
	Annotations       map[string]string `json:"annotations,omitempty"`
	OwnerReferences   []struct{}        `json:"ownerReferences,omitempty"`
	ManagedFields     []ManagedField    `json:"managedFields,omitempty"`
}

// Wanted is what a Secret must hold.
type Wanted struct {
	config.Secret
	// Owner is the name of this keyvault-csi-sync.
	Owner string
	// Version is the time when the values were fetched.
	Version time.Time
	Values  Values
}

// Build takes the values of the Secret from the set, and checks them for the type of the Secret. An error is for the person who wrote the
// configuration or the value in the vault.
func Build(spec config.Secret, owner string, set fileset.Set) (Wanted, error) {
	w := Wanted{Secret: spec, Owner: owner, Version: set.Time, Values: make(Values, len(spec.Data))}
	for _, key := range sortedKeys(spec.Data) {
		content, err := set.File(spec.Data[key])
		if err != nil {
			return Wanted{}, fmt.Errorf("key %s: %w; name it in the volume's objects, or correct the path", key, err)
		}
		w.Values[key] = content
	}
	if err := w.check(); err != nil {
		return Wanted{}, err
	}
	return w, nil
}

// Manifest is the Secret to apply. live is the Secret that is there, or nil. The manifest has the resource version of live, so it is
// refused if live has changed meanwhile.
func (w Wanted) Manifest(live *Secret) Secret {
	s := Secret{
		APIVersion: "v1", Kind: "Secret", Type: w.Type, Data: w.Values,
		Metadata: Metadata{
			Name:   w.Name,
			Labels: with(w.Labels, NameLabel, w.Owner),
			Annotations: with(w.Annotations,
				ConfigAnnotation, w.Digest(), VersionAnnotation, w.Version.UTC().Format(time.RFC3339Nano), AdoptedAnnotation, "false"),
		},
	}
	if live != nil {
		s.Metadata.UID, s.Metadata.ResourceVersion = live.Metadata.UID, live.Metadata.ResourceVersion
		if w.adopted(*live) {
			s.Metadata.Annotations[AdoptedAnnotation] = "true"
		}
	}
	return s
}

// Same reports whether two wanted Secrets have the same content; their versions may differ.
func (w Wanted) Same(other Wanted) bool {
	return w.Digest() == other.Digest() && w.Adopt == other.Adopt && w.holds(other.Values) && other.holds(w.Values)
}

// holds reports whether the data have all values of the wanted Secret.
func (w Wanted) holds(data Values) bool {
	for key, value := range w.Values {
		if there, ok := data[key]; !ok || !bytes.Equal(value, there) {
			return false
		}
	}
	return true
}
