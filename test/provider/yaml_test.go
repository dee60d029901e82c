package provider_test

import "testing"

// yamlClasses are forms of the parameter objects.
func yamlClasses(_ *testing.T, s *storeDriver, _ *material) []class {
	first, second := value(), value()
	version := map[string]string{"one": s.set("one", first), "two": s.set("two", second), "12345": s.set("12345", first), "true": s.set("true", second)}
	a, b := of("secret", "one", version["one"], "one", first), of("secret", "two", version["two"], "two", second)
	both := files(a, b)
	forms := func(name, text string, want answer) class {
		return class{name: "objects: " + name, objects: text, want: want}
	}
	refused := func(name, text, why string) class {
		return class{name: "objects: " + name, objects: text, instead: invalid(why)}
	}
	other := func(c class, instead answer, why string) class {
		c.instead, c.why = instead, why
		return c
	}
	named := func(name, path, data string) answer { return files(of("secret", name, version[name], path, data)) }
	const shape = "; it must be a mapping with the key array, and in it one text for each object"
	return []class{
		forms("as in the documentation", "\narray:\n  - |\n    objectName: one\n    objectType: secret              # object types: secret, key or cert\n"+
			"    objectVersion: \"\"              # [OPTIONAL] empty is the latest\n  - |\n    objectName: two\n    objectType: secret\n    objectVersion: \"\"\n", both),
		forms("literal without a last newline", "array:\n  - |-\n    objectName: one\n    objectType: secret\n  - |+\n    objectName: two\n    objectType: secret\n\n", both),
		forms("folded", "array:\n  - >\n    objectName: one\n\n    objectType: secret\n", files(a)),
		forms("flow in a text", "array:\n  - \"{objectName: one, objectType: secret}\"\n  - '{\"objectName\": \"two\", \"objectType\": \"secret\"}'\n", both),
		forms("flow", `{array: ["objectName: one\nobjectType: secret", "{objectName: two, objectType: secret}"]}`, both),
		forms("JSON", `{"array":["{\"objectName\":\"one\",\"objectType\":\"secret\"}","objectName: two\nobjectType: secret\n"]}`, both),
		forms("JSON with tabs", "{\n\t\"array\": [\n\t\t\"objectName: one\\nobjectType: secret\"\n\t]\n}", files(a)),
		forms("an anchor", "array:\n  - &o |\n    objectName: one\n    objectType: secret\n  - |\n    objectName: two\n    objectType: secret\n", both),
		forms("an alias", "first: &o |\n  objectName: one\n  objectType: secret\narray:\n  - *o\n", files(a)),
		forms("an alias in a text", "array:\n  - |\n    x: &kind secret\n    objectName: one\n    objectType: *kind\n", files(a)),
		forms("comments", "# objects\narray: # of the shop\n  # first\n  - |\n    # not an object\n    objectName: one # name\n    objectType: secret\n", files(a)),
		forms("a document with a beginning", "---\narray:\n  - |\n    ---\n    objectName: one\n    objectType: secret\n", files(a)),
		forms("two documents", "array:\n  - |\n    objectName: one\n    objectType: secret\n---\narray: []\n", files(a)),
		forms("fields that nobody reads", one("secret", "one", "objectAliases: x", "ObjectVersion: x", "tags: {a: [b]}"), files(a)),
		forms("fields that are null", one("secret", "one", "objectVersion:", "objectAlias: ~", "objectFormat: null", "objectVersionHistory: null", "filePermission:"), files(a)),
		forms("keys beside array", "array:\n  - |\n    objectName: one\n    objectType: secret\nlist: [1]\n", files(a)),
		forms("CRLF", "array:\r\n  - |\r\n    objectName: one\r\n    objectType: secret\r\n", files(a)),
		forms("blanks around", "\n\n  array:\n  - |\n    objectName: ' one '\n    objectType: \" secret\\n\"\n    objectAlias: '\tx '\n", named("one", "x", first)),
		forms("a number as a name", one("secret", "12345"), named("12345", "12345", first)),
		forms("a boolean as a name", one("secret", "true"), named("true", "true", second)),
		forms("numbers as aliases", objects(entry("secret", "one", "objectAlias: 007"), entry("secret", "two", "objectAlias: 1.50")),
			files(of("secret", "one", version["one"], "007", first), of("secret", "two", version["two"], "1.50", second))),
		forms("a date as an alias", one("secret", "one", "objectAlias: 2024-01-02"), named("one", "2024-01-02", first)),
		forms("a history that is a float", one("secret", "one", "objectVersionHistory: 1.0"), files(a)),
		forms("a history in hexadecimal", one("secret", "one", "objectVersionHistory: 0x1"), files(a)),
		forms("an empty array", "array: []", files()),
		forms("an array that is null", "array:\n", files()),
		forms("no array", "list: [a]", files()),
		forms("a comment alone", "# nothing", files()),
		forms("an entry with a tag", "array:\n  - !!str |\n    objectName: one\n    objectType: secret\n", files(a)),
		forms("an entry in base64", "array:\n  - !!binary "+base64Of([]byte(entry("secret", "one")))+"\n", files(a)),
		other(forms("a merge key", one("secret", "one", "x: &x {objectAlias: y}", "<<: *x"), named("one", "y", first)), invalid("objects[0]: has a merge key (<<), which is not taken here"), "one key in two places is an error more often than an intention"),
		refused("an entry that is null", "array:\n  - null\n", `objects[0].objectName: is missing; objects[0].objectType: "" is none of secret, key and cert`),
		refused("an entry that is a number", "array:\n  - 1\n", "objects[0]: is not a mapping, or has a key twice"),
		refused("an entry that is a list", "array:\n  - [a]\n", "objects[0]: is not a text"),
		refused("an entry that is no YAML", "array:\n  - '{'\n", "objects[0]: is not YAML"),
		refused("an entry that is a list in a text", "array:\n  - '[a]'\n", "objects[0]: is not a mapping, or has a key twice"),
		refused("a key twice", one("secret", "one", "objectName: two"), "objects[0]: is not a mapping, or has a key twice"),
		refused("array twice", "array: []\narray: []\n", "objects: is not a mapping, or has a key twice"+shape),
		refused("array that is a text", "array: one\n", "objects: array is not a list"+shape),
		refused("no YAML", "array: [", "objects: is not YAML; it must be a mapping with the key array, and in it one text for each object"),
		refused("a text", "one", "objects: is not a mapping, or has a key twice; it must be a mapping with the key array, and in it one text for each object"),
		refused("a history that is a text", one("secret", "one", `objectVersionHistory: "2"`), "objects[0].objectVersionHistory: is not a number"),
		refused("a history that is too large", one("secret", "one", "objectVersionHistory: 3000000000"), "objects[0].objectVersionHistory: is not a number"),
		refused("a field that is a list", one("secret", "one", "objectAlias: [a]"), "objects[0].objectAlias: is not a text"),
		refused("an object without a name", "array:\n  - 'objectType: secret'\n", "objects[0].objectName: is missing"),
		refused("a name with a slash", one("secret", "one/two"), `objects[0].objectName: "one/two" is not 1 to 127 letters, digits and hyphens`),
		refused("a version that is none", one("secret", "one", "objectVersion: v1"), `objects[0].objectVersion: the version "v1" is not 32 hexadecimal digits`),
		refused("an unknown alias", "array:\n  - *o\n", "objects: is not YAML; it must be a mapping with the key array, and in it one text for each object"),
	}
}
