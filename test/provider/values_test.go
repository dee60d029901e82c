package provider_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

// secretClasses are secrets that back no certificate.
func secretClasses(_ *testing.T, s *storeDriver, _ *material) []class {
	data := append(random(40), 0, '\n')
	plain, empty, lines, unicode := value(), "", value()+"\r\n\n"+value()+"\n", "  пароль 漢 "+value()+"  "
	inBase64, inHex := base64Of(data), hex.EncodeToString(data)
	wrapped := inBase64[:20] + "\r\n" + inBase64[20:] + "\n"
	names := map[string]string{
		"plain": plain, "empty": empty, "lines": lines, "unicode": unicode, "base64": inBase64, "wrapped": wrapped,
		"hex": inHex, "hex-capitals": strings.ToUpper(inHex),
	}
	version := map[string]string{}
	for name, text := range names {
		version[name] = s.set(name, text)
	}
	older := value()
	first := s.set("twice", older)
	newer := value()
	second := s.set("twice", newer)
	typed := s.Vault.SetSecret("typed", inBase64, devcloud.SecretOptions{ContentType: devcloud.PKCS12})
	untyped := s.Vault.SetSecret("typed-pem", plain, devcloud.SecretOptions{ContentType: devcloud.PEMFile})
	secret := func(name, data string) answer { return files(of("secret", name, version[name], name, data)) }
	classes := []class{
		{name: "a secret", objects: one("secret", "plain"), want: secret("plain", plain)},
		{name: "an empty secret", objects: one("secret", "empty"), want: secret("empty", "")},
		{name: "a secret of lines", objects: one("secret", "lines"), want: secret("lines", lines)},
		{name: "a secret in Unicode with blanks", objects: one("secret", "unicode"), want: secret("unicode", unicode)},
		{name: "the latest of two versions", objects: one("secret", "twice"), want: files(of("secret", "twice", second, "twice", newer))},
		{name: "the older of two versions", objects: one("secret", "twice", "objectVersion: "+first), want: files(of("secret", "twice", first, "twice", older))},
		{name: "objectVersion latest", objects: one("secret", "twice", "objectVersion: latest"), instead: files(of("secret", "twice", second, "twice", newer))},
		{
			name: "a name in other letters", objects: one("secret", "PLain"),
			want: files(of("secret", "PLain", version["plain"], "PLain", plain)),
		},
		{
			name: "two versions of a secret", objects: objects(entry("secret", "twice", "objectVersion: "+first, "objectAlias: old"), entry("secret", "twice")),
			want: files(of("secret", "twice", first, "old", older), of("secret", "twice", second, "twice", newer)),
		},
		{
			name: "a secret under two names", objects: objects(entry("secret", "plain"), entry("secret", "plain", "objectAlias: again")),
			want: files(of("secret", "plain", version["plain"], "plain", plain), of("secret", "plain", version["plain"], "again", plain)),
		},
		{
			name: "a secret that is listed twice", objects: objects(entry("secret", "plain"), entry("secret", "plain", "objectAlias: plain")),
			want:    files(of("secret", "plain", version["plain"], "plain", plain), of("secret", "plain", version["plain"], "plain", plain)),
			instead: secret("plain", plain), why: "the Secrets Store CSI Driver writes the file once",
		},
		{name: "a PKCS#12 file that backs no certificate", objects: one("secret", "typed"), want: files(of("secret", "typed", typed, "typed", inBase64))},
		{
			name: "a PKCS#12 file that backs no certificate, decoded", objects: one("secret", "typed", "objectFormat: pfx", "objectEncoding: base64"),
			want: files(of("secret", "typed", typed, "typed", string(data))),
		},
		{name: "a PEM type that backs no certificate", objects: one("secret", "typed-pem"), want: files(of("secret", "typed-pem", untyped, "typed-pem", plain))},
	}
	for _, format := range []string{"pem", "PEM", "pfx", "Pfx", `""`} {
		classes = append(classes, class{
			name: "objectFormat " + format + " of a plain secret", objects: one("secret", "plain", "objectFormat: "+format), want: secret("plain", plain),
		})
	}
	for _, encoding := range []string{"utf-8", "UTF-8", "base64", "Base64", "hex", "HEX"} {
		name, decoded := map[byte]string{'u': "plain", 'b': "base64", 'h': "hex"}[strings.ToLower(encoding)[0]], string(data)
		if name == "plain" {
			decoded = plain
		}
		classes = append(classes, class{
			name: "objectEncoding " + encoding, objects: one("secret", name, "objectEncoding: "+encoding), want: secret(name, decoded),
		})
	}
	return append(classes,
		class{name: "base64 in lines", objects: one("secret", "wrapped", "objectEncoding: base64"), want: secret("wrapped", string(data))},
		class{name: "hex in capitals", objects: one("secret", "hex-capitals", "objectEncoding: hex"), want: secret("hex-capitals", string(data))},
		class{name: "an empty secret in base64", objects: one("secret", "empty", "objectEncoding: base64"), want: secret("empty", "")},
		class{
			name: "hex of another text", objects: one("secret", "unicode", "objectEncoding: hex"),
			instead: refusal(codes.FailedPrecondition, `objects[0]: secret "unicode" of https://shop.vault.azure.net is not hex; correct the value or the encoding`),
		},
		class{
			name: "the third of three is missing", objects: objects(entry("secret", "plain"), entry("secret", "twice"), entry("secret", "no-such")),
			instead: refusal(codes.NotFound, `objects[2]: secret "no-such"`+asWorkload+": HTTP 404 SecretNotFound: there is no such object; check the name, or recover it if it was deleted"),
		},
	)
}

// asWorkload is a part of the errors of a vault.
const asWorkload = " of https://shop.vault.azure.net as workload 11111111-2222-3333-4444-555555555555"

// onePath is why two objects cannot have the same path.
const onePath = "the Secrets Store CSI Driver cannot write both"

// aliasClasses are the names of files.
func aliasClasses(_ *testing.T, s *storeDriver, _ *material) []class {
	text := value()
	version := s.set("alias", text)
	other := value()
	otherVersion := s.set("beside-alias", other)
	named := func(alias string) class {
		return class{
			name: "objectAlias " + alias, objects: one("secret", "alias", "objectAlias: "+alias),
			want: files(of("secret", "alias", version, alias, text)),
		}
	}
	refused := func(alias, written, why string) class {
		return class{
			name: "objectAlias " + alias, objects: one("secret", "alias", "objectAlias: "+alias),
			instead: invalid(`objects[0].objectAlias: "` + written + `" ` + why),
		}
	}
	cleaned := func(alias, path string) class {
		c := named(alias)
		c.instead, c.why = files(of("secret", "alias", version, path, text)), "it is the path that the Secrets Store CSI Driver writes"
		return c
	}
	return []class{
		named("db-password.txt"), named("a/b"), named("a/b/c/d/e"), named("two words"), named(".hidden"), named("пароль"), named("UPPER_case-1.2"),
		cleaned("./a", "a"), cleaned("a//b", "a/b"), cleaned("a/./b", "a/b"), cleaned("a/", "a"),
		refused("/a", "/a", "is absolute, paths are relative to the volume"),
		refused("../a", "../a", `contains ".."`), refused("a/../b", "a/../b", `contains ".."`), refused("a..b", "a..b", `contains ".."`),
		{
			name: "objectAlias with a control character", objects: one("secret", "alias", `objectAlias: "a\u0001b"`),
			want:    files(of("secret", "alias", version, "a\x01b", text)),
			instead: invalid(`objects[0]: path "a\x01b" holds a control character`), why: "it hides what a file is called",
		},
		{
			name: "two objects with one path", objects: objects(entry("secret", "alias"), entry("secret", "beside-alias", "objectAlias: alias")),
			want: files(of("secret", "alias", version, "alias", text), of("secret", "beside-alias", otherVersion, "alias", other)), why: onePath,
			instead: invalid(`objects[1]: writes "alias", which objects[0] writes already`),
		},
		{
			name: "a file where another has a folder", objects: objects(entry("secret", "alias", "objectAlias: x"), entry("secret", "alias", "objectAlias: x/y")),
			want:    files(of("secret", "alias", version, "x", text), of("secret", "alias", version, "x/y", text)),
			instead: invalid(`objects[1]: writes "x/y", but objects[0] writes the file "x"`), why: onePath,
		},
		{
			name: "two files in a folder", objects: objects(entry("secret", "alias", "objectAlias: x/y"), entry("secret", "alias", "objectAlias: x/z")),
			want: files(of("secret", "alias", version, "x/y", text), of("secret", "alias", version, "x/z", text)),
		},
	}
}

// permissionClasses are the modes of files.
func permissionClasses(_ *testing.T, s *storeDriver, _ *material) []class {
	text := value()
	version := s.set("mode", text)
	mode := func(mode string) answer { return files(file{"mode", mode, text, "secret/mode", version}) }
	given := func(written, want string) class {
		return class{name: "filePermission " + written, objects: one("secret", "mode", "filePermission: "+written), want: mode(want)}
	}
	refused := func(written, provider, why string) class {
		c := given(written, provider)
		c.instead, c.why = invalid(`objects[0].filePermission: "`+strings.Trim(written, `"`)+`" must be permission bits in octal such as "0440"`), why
		return c
	}
	const noBits = "the bits above 0777 are no permission, and with fewer nobody can read the file"
	return []class{
		given(`"0400"`, "0400"), given(`"0440"`, "0440"), given(`"640"`, "0640"), given("0644", "0644"), given("0777", "0777"), given("1", "0001"), given(`" 0600 "`, "0600"),
		refused(`"0"`, "0000", noBits), refused(`"0000"`, "0000", noBits), refused(`"01777"`, "1777", noBits), refused(`"-1"`, "-001", noBits),
		{name: "the default mode 0600", objects: one("secret", "mode"), permission: 0o600, want: mode("0600")},
		{name: "the default mode 0440", objects: one("secret", "mode"), permission: 0o440, want: mode("0440")},
		{name: "the default mode 0777", objects: one("secret", "mode"), permission: 0o777, want: mode("0777")},
		{
			name: "a mode of its own beside the default mode 0400", objects: objects(entry("secret", "mode", `filePermission: "0644"`, "objectAlias: a"), entry("secret", "mode")),
			permission: 0o400, want: files(of("secret", "mode", version, "a", text), file{"mode", "0400", text, "secret/mode", version}),
		},
	}
}
