package provider_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

// versions are those of one object, the oldest first.
type versions struct {
	kind, name string
	ids, data  []string
}

// answer has the versions with these indices, under a path.
func (v versions) answer(path string, indices ...int) answer {
	want := files()
	for i, index := range indices {
		suffix := fmt.Sprintf("/%d", i)
		want.Files = append(want.Files, of(v.kind, v.name+suffix, v.ids[index], path+suffix, v.data[index]))
	}
	return want
}

// class asks for a history of an object.
func (v versions) class(what string, want answer, fields ...string) class {
	return class{name: v.kind + " history, " + what, objects: one(v.kind, v.name, fields...), want: want}
}

// historyClasses are histories: the enabled versions by the second in which they were made, the newest first. The provider answers with
// one version more than objectVersionHistory says, if there is one.
func historyClasses(t *testing.T, s *storeDriver, m *material) []class {
	t.Helper()
	seconds := []int{1, 2, 3, 3, 4, 5}
	disabled := map[int]bool{1: true, 4: true}
	secret := versions{kind: "secret", name: "old-secret"}
	key, cert := versions{kind: "key", name: "old-key"}, versions{kind: "cert", name: "old-cert"}
	behind := versions{kind: "secret", name: "old-cert"}
	for i, second := range seconds {
		at, text := time.Now().Add(time.Duration(second)*time.Second-time.Hour).Truncate(time.Second), value()
		secret.ids = append(secret.ids, s.Vault.SetSecret(secret.name, base64Of([]byte(text)), devcloud.SecretOptions{Created: at, Disabled: disabled[i]}))
		secret.data = append(secret.data, text)
		public := m.keys[[]string{"p-256", "p-384", "p-521"}[i%3]].Public()
		id, err := s.Vault.SetKey(key.name, devcloud.KeyOptions{Public: public, Created: at, Disabled: disabled[i]})
		must(t, err)
		key.ids, key.data = append(key.ids, id), append(key.data, publicPEM(t, public))
		leaf, _ := m.issue(t, "old", m.ecKey, nil, nil)
		pfx, err := pkcs12.LegacyDES.Encode(m.ecKey, leaf, nil, "")
		must(t, err)
		set, err := s.Vault.SetCertificate(cert.name, devcloud.CertificateOptions{PFX: pfx, Created: at, Disabled: disabled[i]})
		must(t, err)
		cert.ids, cert.data = append(cert.ids, set.Version), append(cert.data, certPEMs(leaf))
		behind.data = append(behind.data, keyPEM(t, m.ecKey)+certPEMs(leaf))
	}
	behind.ids = cert.ids
	// Enabled are 5, 2 and 3 in the order of the list, and 0.
	var classes []class
	for _, v := range []versions{secret, key, cert, behind} {
		var decode []string
		if v.name == secret.name {
			decode = []string{"objectEncoding: base64"}
		}
		fields := func(more ...string) []string { return append(more, decode...) }
		three := v.class("3 of 4", v.answer(v.name, 5, 2, 3, 0), fields("objectVersionHistory: 3")...)
		three.instead, three.why = v.answer(v.name, 5, 2, 3), asMany
		classes = append(classes, three,
			v.class("4 of 4", v.answer(v.name, 5, 2, 3, 0), fields("objectVersionHistory: 4")...),
			v.class("100 of 4 in a folder", v.answer("a/b", 5, 2, 3, 0), fields("objectVersionHistory: 100", "objectAlias: a/b")...),
			v.class("1", files(of(v.kind, v.name, v.ids[5], v.name, v.data[5])), fields("objectVersionHistory: 1")...),
			v.class("-1", files(of(v.kind, v.name, v.ids[5], v.name, v.data[5])), fields("objectVersionHistory: -1")...),
			v.class("from a version on", v.answer(v.name, 3, 0), fields("objectVersionHistory: 9", "objectVersion: "+v.ids[3])...),
			v.class("0 of a version", files(of(v.kind, v.name, v.ids[0], v.name, v.data[0])), fields("objectVersion: "+v.ids[0])...),
		)
	}
	return append(classes, rareHistoryClasses(s, secret)...)
}

// rareHistoryClasses are histories of secrets whose beginning is unknown or not usable, and a long one.
func rareHistoryClasses(s *storeDriver, secret versions) []class {
	s.Vault.SetSecret("all-off", value(), devcloud.SecretOptions{Disabled: true})
	long := versions{kind: "secret", name: "long"}
	for i := range 40 { // Key Vault lists 25 on a page
		text := value()
		id := s.Vault.SetSecret(long.name, text, devcloud.SecretOptions{Created: time.Now().Add(time.Duration(i)*time.Second - time.Hour)})
		long.ids, long.data = append(long.ids, id), append(long.data, text)
	}
	var newest []int
	for i := range 30 {
		newest = append(newest, 39-i)
	}
	const unknown = "no file at all looks like success"
	none := strings.Repeat("0", 32)
	thirty := long.class("30 of 40", long.answer("long", append(newest, 9)...), "objectVersionHistory: 30")
	thirty.instead, thirty.why = long.answer("long", newest...), asMany
	begin := secret.class("from an unknown version on", files(), "objectVersionHistory: 2", "objectVersion: '"+none+"'")
	begin.instead, begin.why = refusal(codes.NotFound, `objects[0]: the versions of secret "old-secret" version `+none+asWorkload+": the object or that version of it does not exist, or is disabled; check the name and the version, or recover or enable it"), unknown
	off := secret.class("from a disabled version on", files(), "objectVersionHistory: 2", "objectEncoding: base64", "objectVersion: "+secret.ids[4])
	off.instead, off.why = secret.answer(secret.name, 2, 3), unknown+"; the enabled versions before it are there"
	return []class{
		thirty, begin, off,
		{name: "history, all disabled", objects: one("secret", "all-off", "objectVersionHistory: 2"), want: files(), instead: refusal(codes.NotFound, `objects[0]: the versions of secret "all-off"`+asWorkload+": the object or that version of it does not exist, or is disabled; check the name and the version, or recover or enable it"), why: unknown},
		{name: "history of no secret", objects: one("secret", "no-such", "objectVersionHistory: 2"), instead: refusal(codes.NotFound, `objects[0]: the versions of secret "no-such"`+asWorkload+": HTTP 404 SecretNotFound: there is no such object; check the name, or recover it if it was deleted")},
		{name: "history of no cert", objects: one("cert", "no-such", "objectVersionHistory: 2"), want: files(), instead: refusal(codes.NotFound, `objects[0]: the versions of public certificate "no-such"`+asWorkload+": the object or that version of it does not exist, or is disabled; check the name and the version, or recover or enable it"), why: unknown},
		{
			name: "two histories", objects: objects(
				entry("secret", "long", "objectVersionHistory: 2", "objectAlias: x"), entry("secret", "long", "objectVersionHistory: 2", "objectVersion: "+long.ids[1]),
			),
			want:    files(slices.Concat(long.answer("x", 39, 38, 37).Files, long.answer("long", 1, 0).Files)...),
			instead: files(slices.Concat(long.answer("x", 39, 38).Files, long.answer("long", 1, 0).Files)...), why: asMany,
		},
	}
}
