package devcloud

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// SecretChange is a change of the attributes of a secret's version, without its value. A nil field stays as it is.
type SecretChange struct {
	Tags        map[string]string
	ContentType *string
	Expires     *time.Time
}

// ChangeSecret changes the attributes of a version of a secret; an empty version means the latest. As in Azure, the version
// keeps its id and the time of its creation.
func (v *Vault) ChangeSecret(name, version string, change SecretChange) error {
	v.cloud.mu.Lock()
	defer v.cloud.mu.Unlock()
	_, ver := v.find(Secrets, name, version)
	if ver == nil {
		return fmt.Errorf("devcloud: no %s/%s/%s in %s", Secrets, name, version, v.Host())
	}
	if change.Tags != nil {
		ver.tags = maps.Clone(change.Tags)
	}
	if change.ContentType != nil {
		ver.contentType = *change.ContentType
	}
	if change.Expires != nil {
		ver.expires = change.Expires
	}
	ver.updated = v.changed()
	return nil
}

// Recover undoes Delete. As recorded, all versions have the ids and times that they had.
func (v *Vault) Recover(kind Kind, name string) error {
	v.cloud.mu.Lock()
	defer v.cloud.mu.Unlock()
	for _, k := range partsOf(kind) {
		o := v.objects[k][strings.ToLower(name)]
		if o == nil || !o.deleted {
			return fmt.Errorf("devcloud: no deleted %s/%s in %s", k, name, v.Host())
		}
		o.deleted = false
	}
	return nil
}

// Backup is a copy of an object with all its versions.
type Backup struct{ parts map[Kind]*object }

// Backup copies an object. With a certificate its secret and its key are copied.
func (v *Vault) Backup(kind Kind, name string) (Backup, error) {
	v.cloud.mu.Lock()
	defer v.cloud.mu.Unlock()
	b := Backup{map[Kind]*object{}}
	for _, k := range partsOf(kind) {
		o, _ := v.find(k, name, "")
		if o == nil {
			return b, fmt.Errorf("devcloud: no %s/%s in %s", k, name, v.Host())
		}
		b.parts[k] = o.clone()
	}
	return b, nil
}

// Restore puts a backup into a vault that does not have the object, or has deleted and purged it. As recorded, all versions
// have the ids and times of the backup.
func (v *Vault) Restore(b Backup) error {
	v.cloud.mu.Lock()
	defer v.cloud.mu.Unlock()
	for k, o := range b.parts {
		name := strings.ToLower(o.name)
		if known := v.objects[k][name]; known != nil && !known.deleted {
			return fmt.Errorf("devcloud: %s/%s is in %s", k, o.name, v.Host())
		}
		v.put(k, o.clone())
	}
	return nil
}

func (o *object) clone() *object {
	c := &object{name: o.name, versions: slices.Clone(o.versions)}
	for i, ver := range c.versions {
		copied := *ver
		c.versions[i] = &copied
	}
	return c
}

// partsOf are the kinds that an object of a kind consists of.
func partsOf(kind Kind) []Kind {
	if kind == Certificates {
		return []Kind{Certificates, Secrets, Keys}
	}
	return []Kind{kind}
}
