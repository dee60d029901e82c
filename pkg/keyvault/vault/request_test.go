package vault

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Two objects have the same request only if they need the same data of the vault.
func TestRequestOf(t *testing.T) {
	t.Parallel()
	of := func(kind volume.Kind, name string) Request {
		return RequestOf(volume.Object{Kind: kind, Vault: shop, Name: name})
	}
	for name, test := range map[string]struct{ got, want Request }{
		"secret":          {of(volume.KindSecret, "Web"), Request{shop, Secrets, "web", ""}},
		"certificate":     {of(volume.KindCertificate, "web"), Request{shop, Secrets, "web", ""}},
		"its public half": {of(volume.KindPublicCertificate, "web"), Request{shop, Certificates, "web", ""}},
		"key":             {of(volume.KindKey, "web"), Request{shop, Keys, "web", ""}},
	} {
		if test.got != test.want {
			t.Errorf("%s: %v, want %v", name, test.got, test.want)
		}
	}
}

// The request of a selection is small, however long its tags are, and differs from any other selection's.
func TestRequestOfASelection(t *testing.T) {
	t.Parallel()
	of := func(s volume.Selection) Request {
		return RequestOf(volume.Object{Kind: volume.KindSelection, Vault: shop, Selection: &s})
	}
	tags := map[string]string{}
	for i := range 15 {
		tags[fmt.Sprint(i)] = strings.Repeat("\U0010ffff", 256)
	}
	known := map[Request]bool{RequestOf(volume.Object{Kind: volume.KindSecret, Vault: shop}): true}
	for _, s := range []volume.Selection{
		{}, {Prefix: "a"}, {Prefix: "b"}, {Tags: map[string]string{"a": ""}}, {Tags: map[string]string{"a": "b"}},
		{Tags: map[string]string{`a" "b`: "c"}}, {Tags: map[string]string{"a": `b" "c`}}, {Tags: tags},
	} {
		request := of(s)
		if len(request.Name) > 64 || request.Version != "" || known[request] {
			t.Errorf("prefix %q and %d tags: %d bytes; known already: %t", s.Prefix, len(s.Tags), len(request.Name), known[request])
		}
		known[request] = true
	}
	if of(volume.Selection{Prefix: "Web"}) != of(volume.Selection{Prefix: "wEB"}) {
		t.Error("a prefix has no case")
	}
}

// Every request is for a vault of the cloud and for the object that it names.
func TestCheck(t *testing.T) {
	t.Parallel()
	const version = "0123456789abcdef0123456789abcdef"
	for _, test := range []struct {
		vault, name, version string
		good                 bool
	}{
		{shop, "web", "", true},
		{shop, "web", version, true},
		{shop, "..", "", false},
		{shop, "a/b", "", false},
		{shop, "", "", false},
		{shop, "web", "latest", false},
		{shop, "web", version[1:], false},
		{"https://shop.vault.azure.net.evil.example", "web", "", false},
		{"https://shop.vault.usgovcloudapi.net", "web", "", false},
	} {
		object := volume.Object{Kind: volume.KindSecret, Vault: test.vault, Name: test.name, Version: test.version}
		if err := Check(newVaults(t, nil).options.Cloud, object); test.good != (err == nil) || err != nil && !errors.Is(err, volume.ErrInvalid) {
			t.Errorf("%+v: %v, want that it is accepted: %t", test, err, test.good)
		}
	}
}
