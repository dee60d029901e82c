package soak_test

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

// vaultHistory has all states of a vault's objects, so that the content of a volume can be dated.
type vaultHistory struct {
	vault *devcloud.Vault

	mu      sync.Mutex // held while the vault changes, so that every state of the vault is recorded here
	objects map[string]*history
}

// history is the states of one object, oldest first.
type history struct {
	name   string
	states []state
	by     map[sum]int // the newest state with this content
}

// state is one value of an object, or its absence, which is the zero sum.
type state struct {
	content sum
	from    time.Time // just after the vault changed to it
}

type sum [sha256.Size]byte

var absent sum

func newHistory(vault *devcloud.Vault) *vaultHistory {
	return &vaultHistory{vault: vault, objects: map[string]*history{}}
}

// set gives a secret its next value, which contains vault, object and generation and has a unique length, so that a part of a value or a
// value of another object is detected.
func (b *vaultHistory) set(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.of(name)
	generation := len(h.states)
	value := fmt.Sprintf("%s %s %d %s", b.vault.URL(), name, generation, strings.Repeat(fmt.Sprint(generation%10), 20+37*generation%400))
	b.vault.SetSecret(name, value, devcloud.SecretOptions{})
	h.add(sha256.Sum256([]byte(value)))
}

// remove deletes a secret.
func (b *vaultHistory) remove(name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.vault.Delete(devcloud.Secrets, name)
	b.of(name).add(absent)
	return err
}

// issue gives a certificate its next version, with a new key.
func (b *vaultHistory) issue(name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	made, err := b.vault.SetCertificate(name, devcloud.CertificateOptions{KeyType: devcloud.P256, Intermediates: 1})
	if err != nil {
		return err
	}
	b.of(name).add(sha256.Sum256(made.Leaf.Raw))
	return nil
}

func (b *vaultHistory) of(name string) *history {
	h, ok := b.objects[name]
	if !ok {
		h = &history{name: name, by: map[sum]int{}}
		b.objects[name] = h
	}
	return h
}

func (h *history) add(content sum) {
	h.by[content] = len(h.states)
	h.states = append(h.states, state{content, time.Now()})
}

// find returns the generation of a content in an object's history, and when a newer one replaced it; zero for the newest. Of several
// times without the object it finds the last.
func (b *vaultHistory) find(name string, content sum) (generation int, outdated time.Time, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h, ok := b.objects[name]
	if !ok {
		return 0, outdated, fmt.Errorf("%s never had an object %s", b.vault.URL(), name)
	}
	generation, ok = h.by[content]
	if !ok {
		return 0, outdated, fmt.Errorf("%s of %s has a content that the vault never had", name, b.vault.URL())
	}
	if generation+1 < len(h.states) {
		outdated = h.states[generation+1].from
	}
	return generation, outdated, nil
}

// changes counts the values after the first of each object.
func (b *vaultHistory) changes() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range b.objects {
		n += len(h.states) - 1
	}
	return n
}
