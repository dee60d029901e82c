package hostile_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// The driver sends tokens only to vaults of the cloud, however a host name is disguised.
func TestHostNames(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	asked := s.Cloud.Counts()
	const want = ", want https://NAME.vault.azure.net or NAME (3 to 24 letters, digits and single hyphens, a letter first)"
	for vault, problem := range map[string]string{
		"https://sh\u043ep.vault.azure.net":                  " is not a vault", // Cyrillic о
		"https://shop.v\u0430ult.azure.net":                  " is not a vault of this cloud",
		"https://shop\u3002vault\u3002azure\u3002net":        " is not a vault of this cloud", // ideographic full stop
		"https://shop\uff0evault\uff0eazure\uff0enet":        " is not a vault of this cloud", // full-width full stop
		"https://shop.vault.azure.net\u200b":                 " is not a vault of this cloud", // zero width space
		"https://\u202eshop.vault.azure.net":                 " is not a vault",
		"https://xn--shp-0cd.vault.azure.net":                " is not a vault",
		"https://sho\u212a.vault.azure.net":                  " is not a vault", // Kelvin sign
		"https://shop%2evault.azure.net":                     " is not a vault of this cloud",
		"https://evil.example%2f.vault.azure.net":            " is not a vault",
		"https://evil.example%00.vault.azure.net":            " is not a vault",
		"https://shop@evil.example":                          " is not a vault of this cloud",
		"https://shop.vault.azure.net@evil.example":          " is not a vault of this cloud",
		"https://user:" + "x" + "@shop.vault.azure.net":      " is not a vault",
		"https://evil.example/.vault.azure.net":              " is not a vault",
		"https://evil.example?.vault.azure.net":              " is not a vault",
		"https://evil.example#.vault.azure.net":              " is not a vault",
		"https://evil.example\\.vault.azure.net":             " is not a vault",
		"https://shop.vault.azure.net\\@evil.example":        " is not a vault of this cloud",
		"https://shop.vault.azure.net:444":                   " is not a vault of this cloud",
		"https://shop.vault.azure.net:443:443":               " is not a vault of this cloud",
		"https://shop.vault.azure.net.":                      " is not a vault of this cloud",
		"https://shop.vault.azure.net.evil.example":          " is not a vault of this cloud",
		"https://shop.vault.azure.net/../../evil":            " is not a vault of this cloud",
		"https://shop.vault.azure.net//":                     " is not a vault of this cloud",
		"https://shop.vault.azure.net?x=y":                   " is not a vault of this cloud",
		"https://..vault.azure.net":                          " is not a vault",
		"https://.vault.azure.net":                           " is not a vault",
		"https://[::1].vault.azure.net":                      " is not a vault",
		"https://127.0.0.1":                                  " is not a vault of this cloud",
		"https://169.254.169.254":                            " is not a vault of this cloud",
		"https://shop.vault.azure.net\x00":                   " is not a vault of this cloud",
		"https://shop.vault.azure.net\r\nHost: evil.example": " is not a vault of this cloud",
		" https://shop.vault.azure.net":                      " is not a vault",
		"https:// shop.vault.azure.net":                      " is not a vault",
		"https:/\\shop.vault.azure.net":                      " is not a vault",
		"//shop.vault.azure.net":                             " is not a vault",
		"file:///etc/passwd":                                 " is not a vault",
		"shop.vault.azure.net":                               " is not a vault",
		"sh--op":                                             " is not a vault",
		"../shop":                                            " is not a vault",
		"sh\u043ep":                                          " is not a vault",
		strings.Repeat("a", 64) + "…":                        " is not a vault",
	} {
		text := strconv.QuoteToASCII(vault)
		if len(vault) > 64 {
			text = strconv.QuoteToASCII(vault[:64]) + "..."
		}
		s.attack(t, node.Volume("vault", "vault", vault, "secrets", "good"), codes.InvalidArgument, "vault: "+text+problem+want)
		s.attack(t, node.Volume("vault", "objects", "- {secret: good, vault: "+yamlString(vault)+"}"), codes.InvalidArgument,
			"objects[0].vault: "+text+problem+want)
	}
	if got := s.Cloud.Counts(); fmt.Sprint(got) != fmt.Sprint(asked) {
		t.Errorf("a host got requests: %v, before %v", got, asked)
	}
	for _, vault := range []string{"HTTPS://SHOP.Vault.Azure.NET:443/", "Shop", node.VaultURL + "/"} {
		s.attack(t, node.Volume("vault", "vault", vault, "objects", "- secret: good"), codes.OK, "")
	}
	s.verdict(t, "host names")
}

// yamlString quotes any text for YAML.
func yamlString(text string) string {
	var b strings.Builder
	for _, r := range text {
		fmt.Fprintf(&b, `\U%08x`, r)
	}
	return `"` + b.String() + `"`
}

// No attribute leads to a path outside of the volume, or to a misleading path.
func TestPaths(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	for path, problem := range map[string]string{
		"../x":                            `has a component that begins with ".."`,
		"a/../../x":                       `has a component that begins with ".."`,
		"..":                              `has a component that begins with ".."`,
		"..data":                          `has a component that begins with ".."`,
		"..2026_11_23_05_00_00.000000001": `has a component that begins with ".."`,
		"a/..b":                           `has a component that begins with ".."`,
		"/etc/cron.d/x":                   "is absolute, paths are relative to the volume",
		"a//b":                            "has an empty component",
		"a/":                              "has an empty component",
		"./a":                             `has the component "."`,
		"":                                "is empty",
		"a\x00b":                          "holds a control character",
		"a\nb":                            "holds a control character",
		"a\x1b[2Jb":                       "holds a control character",
		"a\u0085b":                        "holds a control character",
		"a\x7fb":                          "holds a control character",
		strings.Repeat("d/", 32) + "x":    "has more than 32 components",
		strings.Repeat("x", 256):          "has a component longer than 255 bytes",
		strings.Repeat("x/y", 400):        "is longer than 1024 bytes",
	} {
		text := strconv.QuoteToASCII(path)
		if len(path) > 64 {
			text = strconv.QuoteToASCII(path[:64]) + "..."
		}
		s.attack(t, node.Volume("path", "objects", "- {secret: good, path: "+yamlString(path)+"}"), codes.InvalidArgument,
			"objects[0].path: the path "+text+" "+problem)
		s.attack(t, node.Volume("path", "objects", "- {secrets: {prefix: go}, path: "+yamlString(path)+"}"), codes.InvalidArgument,
			"objects[0].path: the path "+text+" "+problem)
	}
	for name, text := range map[string]string{
		"../../etc/x": `secrets[0]: the certfile "../../etc/x" is not a plain file name`,
		"..":          `secrets[0]: the certfile ".." is not a plain file name`,
		"..data":      `secrets[0]: the certfile "..data" is not a plain file name`,
		"a\x00":       `secrets[0]: the certfile "a\x00" holds a control character`,
		"a\x1b]0":     `secrets[0]: the certfile "a\x1b]0" holds a control character`,
	} {
		s.attack(t, node.Volume("path", "secrets", "good::"+name), codes.InvalidArgument, text)
	}
	// These names only look dangerous, and are valid.
	for _, path := range []string{"a\u2025b", "a\u202eb", "%2e%2e%2fx", "a\\..\\b", "~", "-rf", "a b", "\u0430", "C:", "\u200b"} {
		s.attack(t, node.Volume("path", "objects", "- {secret: good, path: "+yamlString(path)+"}"), codes.OK, "")
	}
	s.verdict(t, "paths")
}

// large is about the allowed size of all attributes.
const large = 240_000

// Attributes are read in time and memory proportional to their size, and refused above limits.
func TestSizes(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "- {secret: good, path: p%d}\n", i)
		}
		return b.String()
	}
	// Every value is as large as a vault allows, and every list as long as a volume can have it.
	s.Vault.SetSecret("nested", strings.Repeat("[", 9_000)+strings.Repeat("]", 9_000), devcloud.SecretOptions{})
	s.Vault.SetSecret("wide", "["+strings.Repeat("0,", 12_000)+"0]", devcloud.SecretOptions{})
	s.Vault.SetSecret("text", "["+strings.Repeat(" ", 25_000), devcloud.SecretOptions{})
	fields := func(n int, secret, pointer string) string {
		var b strings.Builder
		fmt.Fprintf(&b, "- secret: %s\n  fields:\n", secret)
		for i := range n {
			fmt.Fprintf(&b, "    p%d: "+pointer+"\n", i, i)
		}
		return b.String()
	}
	entries := func(n int) string {
		var b strings.Builder
		b.WriteString("- json: many.json\n  from:\n")
		for i := range n {
			fmt.Fprintf(&b, "  - {name: n%d, secret: good}\n", i)
		}
		return b.String()
	}
	for name, test := range map[string]struct {
		volume kubelet.Volume
		code   codes.Code
		text   string
	}{
		"as many fields as may be":  {node.Volume("many", "objects", fields(4096, "wide", "/%d")), codes.OK, ""},
		"pointers into deep arrays": {node.Volume("many", "objects", fields(4096, "nested", strings.Repeat("/0", 16)+"/%d")), codes.FailedPrecondition, `objects[0]: secret "nested" of ` + node.VaultURL + ` has no field "` + strings.Repeat("/0", 16) + `/1", *`},
		"pointers into no JSON":     {node.Volume("many", "objects", fields(4096, "text", "/%d")), codes.FailedPrecondition, `objects[0]: secret "text" of ` + node.VaultURL + ` has no field "/0", its value is not JSON*`},
		"4,097 fields":              {node.Volume("many", "objects", fields(4097, "wide", "/%d")), codes.InvalidArgument, "objects[0].fields: has more than 4096 fields"},
		"as many entries as may be": {node.Volume("many", "objects", entries(4096)), codes.OK, ""},
		"4,097 entries":             {node.Volume("many", "objects", entries(4097)), codes.InvalidArgument, "objects[0].from: has too many entries, at most 4096 in from and fields of all objects"},

		"as many objects as may be": {node.Volume("many", "objects", many(4096)), codes.OK, ""},
		"8,000 objects":             {node.Volume("many", "objects", many(8_000)), codes.InvalidArgument, "objects: has more than 4096 entries"},
		"10,000 secrets":            {node.Volume("many", "secrets", strings.Repeat("good;", 10_000)), codes.InvalidArgument, "secrets: has more than 4096 entries"},
		"10,000 certificates":       {node.Volume("many", "certificates", strings.Repeat("good;", 10_000)), codes.InvalidArgument, "certificates: has more than 4096 entries"},
		"240,000 semicolons":        {node.Volume("many", "secrets", strings.Repeat(";", large)), codes.OK, ""},
		"240 KB of one name":        {node.Volume("many", "secrets", strings.Repeat("a", large)), codes.InvalidArgument, `secrets[0]: the name "` + strings.Repeat("a", 64) + `"... is not 1 to 127 letters, digits and hyphens`},
		"240 KB of a comment":       {node.Volume("many", "objects", "- secret: good # "+strings.Repeat("x", large)), codes.OK, ""},
		"240 KB of a path":          {node.Volume("many", "objects", "- {secret: good, path: "+strings.Repeat("x", large)+"}"), codes.InvalidArgument, `objects[0].path: the path "` + strings.Repeat("x", 64) + `"... is longer than 1024 bytes`},
		"240 KB of an attribute's name": {node.Volume("many", "secrets", "good", strings.Repeat("x", large), "y"), codes.InvalidArgument,
			`"` + strings.Repeat("x", 64) + `"...: unknown attribute`},
		"more than a volume may have": {node.Volume("many", "objects", "# "+strings.Repeat("x", 256<<10)), codes.InvalidArgument, "volumeAttributes: hold *"},
		"a megabyte":                  {node.Volume("many", "objects", "# "+strings.Repeat("x", 1<<20)), codes.ResourceExhausted, "grpc: received message larger than max *"},
		"10,000 attributes":           {unknownAttributes(10_000), codes.InvalidArgument, "volumeAttributes: are 10008, more than 8192"},
		"8,000 attributes":            {unknownAttributes(8_000), codes.InvalidArgument, "x0: unknown attribute*"},
		"10,000 keys of a Secret": {manyKeys(10_000), codes.InvalidArgument,
			"identity: servicePrincipal needs the key clientsecret or clientcertificate in the Secret of nodePublishSecretRef*"},
	} {
		t.Run(name, func(t *testing.T) { s.attack(t, test.volume, test.code, test.text) })
	}
	s.verdict(t, "sizes")
}

func unknownAttributes(n int) kubelet.Volume {
	v := node.Volume("many", "secrets", "good")
	for i := range n {
		v.Attributes["x"+strconv.Itoa(i)] = marker
	}
	return v
}

func manyKeys(n int) kubelet.Volume {
	v := node.Volume("many", "secrets", "good", "identity", "servicePrincipal")
	v.Secret = map[string]string{}
	for i := range n {
		v.Secret["clientsecre"+strconv.Itoa(i)] = marker
	}
	return v
}

// A short YAML text can describe a large document. It must not cost more than its own size.
func TestYAML(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	var laughs strings.Builder
	laughs.WriteString("- &a [x,x,x,x,x,x,x,x,x]\n")
	for c := 'b'; c <= 'z'; c++ {
		fmt.Fprintf(&laughs, "- &%c [%s]\n", c, strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 9), ","))
	}
	for name, test := range map[string]struct{ yaml, text string }{
		"a billion laughs":        {laughs.String(), "objects: line 1: anchors and aliases are not taken"},
		"an anchor alone":         {"- &a {secret: good}", "objects: line 1: anchors and aliases are not taken"},
		"merged maps":             {"- {<<: &a {secret: good}}\n- {<<: *a}", "objects: line 1: anchors and aliases are not taken"},
		"an alias of itself":      {"- &a [*a]", "objects: *"},
		"a list, deep":            {strings.Repeat("[", 9000) + strings.Repeat("]", 9000), "objects[0]: must be a YAML mapping, not a list"},
		"a list, too deep":        {strings.Repeat("[", 30000) + strings.Repeat("]", 30000), "objects: is not YAML: exceeded max depth of 10000"},
		"240 KB of brackets":      {strings.Repeat("[", large), "objects: is too large, at most 4096 entries"},
		"240 KB of lines":         {strings.Repeat("\n", large), "objects: is too large, at most 4096 entries"},
		"240 KB of hyphens":       {strings.Repeat("- ", large/2), "objects: is too large, at most 4096 entries"},
		"240 KB of spaces":        {strings.Repeat(" ", large), ""},
		"240 KB of tabs":          {"- secret:\t" + strings.Repeat("\t", large) + "good", ""},
		"240 KB of anchors":       {strings.Repeat("&a ", large/3), "objects: *"},
		"240 KB of tags":          {strings.Repeat("!x ", large/3), "objects: *"},
		"240 KB of escapes":       {`- secret: "` + strings.Repeat(`\x00`, large/4) + `"`, `objects[0].secret: the name "*`},
		"240 KB in one key":       {"- ? " + strings.Repeat("k", large) + "\n  : x", "objects*"},
		"a mapping of thousands":  {"- {" + strings.Repeat("a: b, ", 5000) + "}", "objects*"},
		"240 KB, folded":          {"- secret: >-\n    " + strings.Repeat("x ", large/2), "objects*"},
		"a second document":       {"- secret: good\n---\n- secret: good", "objects: line 2: a second YAML document begins"},
		"a tag of Go":             {"- !!binary Z29vZA==", "objects[0]: must be a YAML mapping*"},
		"a key that is a mapping": {"- {? {secret: a} : b}", "objects[0]*"},
		"control characters":      {"- secret: \x1b[2J", "objects: is not YAML: control characters are not allowed"},
		"a NUL":                   {"- secret: a\x00b", "objects: is not YAML: control characters are not allowed"},
		"UTF-16":                  {"\xff\xfe-\x00 \x00", "grpc: *"},
		"text of right to left":   {"- secret: \"\u202edoog\"", `objects[0].secret: the name "\u202edoog" is not 1 to 127 letters, digits and hyphens`},
	} {
		t.Run(name, func(t *testing.T) {
			code := codes.InvalidArgument
			switch {
			case test.text == "":
				code = codes.OK
			case name == "UTF-16":
				code = codes.Internal // refused by protobuf in the client
			}
			s.attack(t, node.Volume("yaml", "objects", test.yaml), code, test.text)
		})
	}
	s.verdict(t, "YAML")
}
