package secret

import (
	"encoding/json"
	"strings"
)

// FieldManager is the manager of the fields that are written, for all keyvault-csi-sync of a namespace.
const FieldManager = "keyvault-csi-sync"

// ManagedField is the used part of what the API server records about who wrote which fields.
type ManagedField struct {
	Manager     string          `json:"manager"`
	Operation   string          `json:"operation"`
	Subresource string          `json:"subresource,omitempty"`
	FieldsV1    json.RawMessage `json:"fieldsV1,omitempty"`
}

// applied returns what a keyvault-csi-sync has applied to the Secret: whether it did at all, and the keys of the data that it still owns. Marks
// do not prove that: whoever copies a Secret copies its labels and annotations too.
func (m Metadata) applied() (some bool, keys []string) {
	for _, field := range m.ManagedFields {
		if field.Manager != FieldManager || field.Operation != "Apply" || field.Subresource != "" {
			continue
		}
		var fields struct {
			Data map[string]json.RawMessage `json:"f:data"`
		}
		if json.Unmarshal(field.FieldsV1, &fields) != nil {
			continue
		}
		some = true
		for name := range fields.Data {
			if key, ok := strings.CutPrefix(name, "f:"); ok {
				keys = append(keys, key)
			}
		}
	}
	return some, keys
}

// keptBy reports whether the keyvault-csi-sync of that name keeps the Secret already. If somebody has removed the label, what was applied is
// proof enough.
func (m Metadata) keptBy(owner string) bool {
	name, labelled := m.Labels[NameLabel]
	applied, _ := m.applied()
	return applied && (name == owner || !labelled)
}

// MadeBy reports whether the keyvault-csi-sync of that name made the Secret, so that it may delete it. It must own data, and the annotation
// must say that it was not adopted.
func (m Metadata) MadeBy(owner string) bool {
	_, keys := m.applied()
	return m.Labels[NameLabel] == owner && m.Annotations[AdoptedAnnotation] == "false" && len(keys) > 0
}

// mine reports whether this keyvault-csi-sync keeps the Secret already.
func (w Wanted) mine(live Secret) bool { return live.Metadata.keptBy(w.Owner) }

// adopted reports whether somebody else made the Secret. One whose annotation was removed counts as adopted, because that deletes nothing.
func (w Wanted) adopted(live Secret) bool {
	return !w.mine(live) || live.Metadata.Annotations[AdoptedAnnotation] != "false"
}

// drops reports whether an apply removes a key of the Secret: one that was applied and is not wanted any more.
func (w Wanted) drops(live Secret) bool {
	_, keys := live.Metadata.applied()
	for _, key := range keys {
		if _, ok := w.Values[key]; !ok {
			return true
		}
	}
	return false
}
