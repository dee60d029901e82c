package soak_test

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

// book knows everything that a vault has ever said, so that whatever a volume shows can be dated.
type book struct {
	vault *devcloud.Vault

	mu      sync.Mutex // held while the vault changes, so that nobody sees what is not yet written here
	objects map[string]*history
}

// history is all states of one object, oldest first.
type history struct {
	name   string
	states []state
	by     map[sum]int // the newest state with this content
}

// state is one value of an object, or its absence, which is the zero sum.
type state struct {
	content sum
	from    time.Time // just before the vault had it
}

type sum [sha256.Size]byte

var absent sum

func newBook(vault *devcloud.Vault) *book { return &book{vault: vault, objects: map[string]*history{}} }

// set gives a secret its next value: one that names vault, object and generation and has a length of its own, so that
// half of it or that of another is no value.
func (b *book) set(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.of(name)
	generation := len(h.states)
	value := fmt.Sprintf("%s %s %d %s", b.vault.URL(), name, generation, strings.Repeat(fmt.Sprint(generation%10), 20+37*generation%400))
	h.add(sha256.Sum256([]byte(value)))
	b.vault.SetSecret(name, value, devcloud.SecretOptions{})
}

// remove deletes a secret.
func (b *book) remove(name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.of(name).add(absent)
	return b.vault.Delete(devcloud.Secrets, name)
}

// issue gives a certificate its next version, with a key of its own.
func (b *book) issue(name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	h, from := b.of(name), time.Now()
	made, err := b.vault.SetCertificate(name, devcloud.CertificateOptions{KeyType: devcloud.P256, Intermediates: 1})
	if err != nil {
		return err
	}
	h.addFrom(sha256.Sum256(made.Leaf.Raw), from)
	return nil
}

func (b *book) of(name string) *history {
	h, ok := b.objects[name]
	if !ok {
		h = &history{name: name, by: map[sum]int{}}
		b.objects[name] = h
	}
	return h
}

func (h *history) add(content sum) { h.addFrom(content, time.Now()) }

func (h *history) addFrom(content sum, from time.Time) {
	h.by[content] = len(h.states)
	h.states = append(h.states, state{content, from})
}

// find gives the place of a content in an object's history, and when something newer took its place; zero if it is the
// newest. Of the times without the object only the last is found, which is the one that is hardest to be late for.
func (b *book) find(name string, content sum) (generation int, outdated time.Time, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h, ok := b.objects[name]
	if !ok {
		return 0, outdated, fmt.Errorf("%s has never had an object %s", b.vault.URL(), name)
	}
	generation, ok = h.by[content]
	if !ok {
		return 0, outdated, fmt.Errorf("%s of %s is nothing that the vault has ever said", name, b.vault.URL())
	}
	if generation+1 < len(h.states) {
		outdated = h.states[generation+1].from
	}
	return generation, outdated, nil
}

// changes counts the values that the vault has had after the first of each object.
func (b *book) changes() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range b.objects {
		n += len(h.states) - 1
	}
	return n
}
