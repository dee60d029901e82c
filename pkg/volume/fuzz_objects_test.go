package volume_test

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// patience bounds one call of the parser with the small input of a fuzzer: it takes microseconds of processor time, and
// longer with the instrumentation and on a slow machine.
const patience = 5 * time.Second

// FuzzObjects tests the reader of structured objects with two kinds of text: mutations of the seeds, and the output of a
// grammar with the fuzzer's bytes as random numbers, which is nearly always YAML and often a valid volume.
func FuzzObjects(f *testing.F) {
	for _, text := range []string{
		"- secret: a\n  path: app/a.key\n  mode: \"0440\"\n  encoding: hex\n  optional: true\n  vault: other-vault",
		"- certificate: w\n  chain: t/w.crt\n  key: t/w.key\n  cert: t/l\n  ca: t/ca\n  pem: t/pem\n  pfx: t/pfx\n  keyFormat: sec1\n  requireChain: true",
		"- certificate: w\n  pfx: w.p12\n  pfxPassword: {secret: p, version: " + version + ", vault: other}\n  pfxProfile: legacy",
		"- {certificate: w, source: certificate, cert: a, chain: b}\n- {manifest: v.json, tags: true, mode: '0440'}",
		"- {certificate: w, source: certificate, key: a, pfxPassword: planted}\n- {certificate: w, pfx: b, pfxPassword: {secert: [p]}}",
		"- secrets: {prefix: app-, tags: {env: prod}}\n  path: app\n- key: k\n  version: " + version,
		"- &a {secret: x}\n- *a",
		"- {<<: &m {secret: x}, path: y}\n- {<<: [*m, *m]}",
		"- &a [&b [&c [*a, *b], *c], *a]",
		strings.Repeat("[", 2000) + strings.Repeat("]", 2000),
		"- secrets: " + strings.Repeat("{a: ", 500) + strings.Repeat("}", 500),
		"- !!binary c2VjcmV0\n- !!set {a, b}\n- !<tag:x> {secret: a}\n- ? {a: b}\n  : c",
		"%YAML 1.1\n%TAG ! tag:x,1:\n---\n- secret: \"\\u202e\\x1b[2J\\0\"\n...\n---\n- secret: b",
		"- secret: |+2\n      a\n\n  path: >-\n    b\n    c",
		"\xef\xbb\xbf- secret: a\r- secret: b\u2028- secret: c\u0085",
		"- env: app.env\n  mode: \"0440\"\n  vault: shop\n  from:\n  - {name: A, secret: a, field: /a~1b/0, optional: true}\n  - secrets: {prefix: app-}",
		"- json: a/b.json\n  from: [{secret: a, encoding: hex}, {secret: A}]\n- properties: p\n  from: [{name: \"\\u00fc =:\", secret: x}]",
		"- secret: a\n  fields: {a/b: \"\", c: /~0, d: /~2, \"\\x1b\": \"#/x\"}\n- {secret: b, field: b, version: x}",
		"[{secret: a, path: \"..\"}, {secret: b, path: /etc}, {secret: c, path: a//b}, {secret: d, path: x/../y}]",
	} {
		f.Add(text, []byte(nil))
	}
	for _, dice := range []string{"", "\x01\x00", "\x05\x03\x01\x00\x07\x02", "0123456789abcdefghijklmnopqrstuvwxyz", strings.Repeat("\x07\xf1\x3a", 40)} {
		f.Add("", []byte(dice))
	}
	f.Fuzz(func(t *testing.T, text string, dice []byte) {
		if len(dice) > 0 {
			text = (&yamlWriter{dice: dice}).list()
		}
		if strings.Contains(text, "planted") {
			return // the fuzzer has learned what checkFuzzedError searches for
		}
		var request volume.Request
		var err error
		took := suite.CPUTime(func() { request, err = volume.Parse(structured(text), nil, volume.Defaults{}) })
		if took > patience {
			t.Fatalf("%d bytes took %v", len(text), took)
		}
		if err != nil {
			checkFuzzedError(t, err)
			return
		}
		checkFuzzedRequest(t, request)
	})
}

// yamlWriter writes hostile objects with the known fields.
type yamlWriter struct {
	dice    []byte
	b       strings.Builder
	depth   int
	anchors int
}

// roll returns a number below n, 0 when the dice are used up.
func (w *yamlWriter) roll(n int) int {
	if len(w.dice) == 0 {
		return 0
	}
	v := int(w.dice[0])
	w.dice = w.dice[1:]
	return v % n
}

func (w *yamlWriter) one(of ...string) string { return of[w.roll(len(of))] }

func (w *yamlWriter) list() string {
	for range 1 + w.roll(9) {
		w.b.WriteString("- ")
		w.mapping(func() string {
			return w.one("secret", "path", "certificate", "key", "secrets", "vault", "version", "mode", "encoding", "optional",
				"chain", "cert", "ca", "pem", "pfx", "keyFormat", "requireChain", "pfxPassword", "pfxProfile", "source", "manifest",
				"env", "json", "properties", "from", "field", "fields", "<<", "Secret", "\u0441ert")
		})
		w.b.WriteString("\n")
	}
	return w.b.String()
}

func (w *yamlWriter) mapping(key func() string) {
	w.anchor()
	w.b.WriteString("{")
	for i := range 1 + w.roll(5) {
		if i > 0 {
			w.b.WriteString(", ")
		}
		k := key()
		w.b.WriteString(k + ": ")
		w.value(k)
	}
	w.b.WriteString("}")
}

func (w *yamlWriter) anchor() {
	if w.roll(16) == 1 {
		w.anchors++
		w.b.WriteString("&a" + string(rune('0'+w.anchors%10)) + " ")
	}
}

func (w *yamlWriter) value(key string) {
	if w.depth++; w.depth > 60 {
		w.b.WriteString("x")
		return
	}
	if w.roll(8) == 7 {
		w.strange()
		return
	}
	switch key {
	case "secrets":
		w.mapping(func() string { return w.one("prefix", "tags", "tag") })
	case "pfxPassword":
		w.mapping(func() string { return w.one("secret", "version", "vault", "optional") })
	case "pfxProfile", "source":
		w.b.WriteString(w.one("modern", "legacy", "secret", "certificate", "old"))
	case "from":
		w.b.WriteString("[")
		for i := range w.roll(4) {
			if i > 0 {
				w.b.WriteString(", ")
			}
			w.mapping(func() string {
				return w.one("secret", "name", "secrets", "field", "optional", "vault", "version", "encoding", "mode", "nam\u0435")
			})
		}
		w.b.WriteString("]")
	case "fields":
		w.mapping(func() string { return w.one("a", "a/b", "..", `"/x"`, `"a\x00"`) })
	case "field":
		w.b.WriteString(w.one("/a", `""`, "/a/0/~0~1", "a", `"#/a"`, "/~2", `"/\u2028"`))
	case "name":
		w.b.WriteString(w.one("A", "A_1", "1A", "UID", "a-b", `""`, `"a\nb"`, "\u00fc"))
	case "tags":
		w.mapping(func() string { return w.one("env", "team", `""`, "<<") })
	case "mode":
		w.b.WriteString(w.one(`"0440"`, `"400"`, "0440", `"0o4"`, `"1777"`, `"000"`))
	case "optional":
		w.b.WriteString(w.one("true", "no", `"true"`, "FALSE"))
	case "version":
		w.b.WriteString(w.one(version, strings.ToUpper(version), `"1"`, `""`))
	case "vault":
		w.b.WriteString(w.one("shop", "https://other.vault.azure.net", "https://sh\u043ep.vault.azure.net", `"x@shop"`, "https://shop.vault.azure.net.evil.example"))
	case "secret", "certificate", "key", "prefix":
		w.b.WriteString(w.one("a", "B", "c-1", "..", `"a/b"`, `"a\x00b"`, "9"))
	default:
		w.b.WriteString(w.one("a", "a/b", "a/b/c", "../x", "..data", "/etc/x", `"a\nb"`, "a//b", "./a", "utf-8", "base64", "pkcs1", "sec1"))
	}
}

// strange writes an unusual value.
func (w *yamlWriter) strange() {
	switch w.roll(7) {
	case 0:
		w.b.WriteString("*a" + string(rune('0'+w.roll(10))))
	case 1:
		w.b.WriteString("[")
		w.value("secrets")
		w.b.WriteString(", *a1]")
	case 2:
		w.b.WriteString("!!binary c2Vj")
	case 3:
		w.b.WriteString("!x \"\\e[31m\\u2028\"")
	case 4:
		w.b.WriteString("2026-11-23")
	case 5:
		size := make([]byte, 2)
		copy(size, w.dice)
		w.b.WriteString(strings.Repeat("k", int(binary.BigEndian.Uint16(size))))
	case 6:
		w.anchor()
		w.b.WriteString("~")
	}
}
