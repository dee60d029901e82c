package files_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

func TestFieldEncoding(t *testing.T) {
	t.Parallel()
	secrets := map[string]string{"keys": `{"b64": "AAEC\n/w==", "hex": "00 ff", "number": 12, "bad": "x!"}`}
	const about = `objects[0]: secret "keys" of https://shop.vault.azure.net `
	for yaml, want := range map[string]string{
		"[{secret: keys, field: /b64, encoding: base64}]": "\x00\x01\x02\xff",
		"[{secret: keys, field: /hex, encoding: hex}]":    "\x00\xff",
		"[{secret: keys, field: /number, encoding: hex}]": about + `has a field "/number" that is no string and so not hex; leave the encoding out`,
		"[{secret: keys, field: /bad, encoding: base64}]": about + `is not base64; correct the value or the encoding`,
	} {
		content, err := contentOf(t, structured(t, yaml), secrets)
		if err != nil {
			if !errors.Is(err, volume.ErrPrecondition) || err.Error() != want {
				t.Errorf("%s: %v, want %s", yaml, err, want)
			}
			continue
		}
		if got := string(content.Files[0].Data.Reveal()); got != want {
			t.Errorf("%s: %q, want %q", yaml, got, want)
		}
	}
}

// The errors name the pointer and how far it got, and never what is there.
func TestFieldErrors(t *testing.T) {
	t.Parallel()
	secrets := map[string]string{
		"db":   `{"db": {"user": "planted", "twice": 1, "twice": 2}, "planted": "\ud800", "half": "\ud800"}`,
		"text": "planted", "deep": strings.Repeat("[", 12_000) + strings.Repeat("]", 12_000),
	}
	for yaml, want := range map[string]string{
		"[{secret: db, field: /db/password}]":                  `secret "db" of https://shop.vault.azure.net has no field "/db/password", "/db" has no member "password"; correct the pointer or the value`,
		"[{secret: db, field: /db/user/first}]":                `secret "db" of https://shop.vault.azure.net has no field "/db/user/first", "/db/user" is a string; correct the pointer or the value`,
		"[{secret: db, fields: {a: /db/user, b: /x}}]":         `secret "db" of https://shop.vault.azure.net has no field "/x", the value has no member "x"; correct the pointer or the value`,
		"[{secret: db, field: /db/twice}]":                     `secret "db" of https://shop.vault.azure.net has no field "/db/twice", "/db/twice" is there twice; correct the pointer or the value`,
		"[{secret: db, field: /db/twice, optional: true}]":     `secret "db" of https://shop.vault.azure.net has no field "/db/twice", "/db/twice" is there twice; correct the pointer or the value`,
		"[{secret: db, field: /half}]":                         `secret "db" of https://shop.vault.azure.net has a field "/half" that is a string with half of a surrogate pair; correct the value`,
		"[{secret: text, field: /a}]":                          `secret "text" of https://shop.vault.azure.net has no field "/a", its value is not JSON; correct the value, or leave the field out`,
		"[{secret: text, field: /a, optional: true}]":          `secret "text" of https://shop.vault.azure.net has no field "/a", its value is not JSON; correct the value, or leave the field out`,
		"[{secret: deep, field: /0/0}]":                        `secret "deep" of https://shop.vault.azure.net has no field "/0/0", its value is not JSON; correct the value, or leave the field out`,
		"[{env: f, from: [{name: A, secret: db, field: /ü}]}]": `secret "db" of https://shop.vault.azure.net has no field "/\u00fc", the value has no member "\u00fc"; correct the pointer or the value`,
	} {
		t.Run(yaml, func(t *testing.T) {
			source := "objects[0]: "
			if strings.Contains(yaml, "from") {
				source = "objects[0].from[0]: "
			}
			_, err := contentOf(t, structured(t, yaml), secrets)
			if !errors.Is(err, volume.ErrPrecondition) || err.Error() != source+want || strings.Contains(err.Error(), "planted") {
				t.Errorf("got  %v\nwant %s", err, source+want)
			}
		})
	}
}
