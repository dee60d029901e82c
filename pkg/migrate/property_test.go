package migrate_test

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
)

// sampled is how many mutations the short form makes. With the race detector each takes about 10 ms.
const sampled = 250

// corpus are the manifests whose fields are changed: all that are YAML.
func corpus(t *testing.T) (all []*corpusFile) {
	t.Helper()
	names, err := filepath.Glob("testdata/*.[yj]*")
	if err != nil {
		t.Fatal(err)
	}
	if err := filepath.WalkDir("testdata/corpus", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)) {
			names = append(names, name)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if f, err := readCorpusFile(name, data); err == nil {
			all = append(all, f)
		}
	}
	return all
}

// mutations are all changes of one field in what concerns the migration: the classes, the volumes of the store, and the agents.
func (f *corpusFile) mutations() (all []mutation) {
	for i, document := range f.documents {
		f.collect(&all, i, document, nil, "", false)
	}
	return all
}

func (f *corpusFile) collect(all *[]mutation, document int, node *yaml.Node, steps []int, name string, inside bool) {
	switch node.Kind {
	case yaml.MappingNode:
		inside = inside || concerns(node)
		for i := 0; i+1 < len(node.Content); i += 2 {
			key := node.Content[i].Value
			here := strings.TrimPrefix(name+"."+key, ".")
			if (inside || key == "volumes") && key != "" && key != "<<" {
				for _, change := range changes {
					*all = append(*all, mutation{document, append(slices.Clone(steps), i), here, change})
				}
			}
			f.collect(all, document, node.Content[i+1], append(slices.Clone(steps), i+1), here, inside)
		}
	case yaml.SequenceNode, yaml.DocumentNode:
		for i, child := range node.Content {
			here := name
			if node.Kind == yaml.SequenceNode {
				here = fmt.Sprintf("%s[%d]", name, i)
			}
			f.collect(all, document, child, append(slices.Clone(steps), i), here, inside)
		}
	}
}

// concerns reports whether a mapping is a class, a volume of the store, or a container that is the agent.
func concerns(node *yaml.Node) bool {
	var value any
	if node.Decode(&value) != nil {
		return false
	}
	fields, _ := value.(map[string]any)
	return fields["kind"] == "SecretProviderClass" || fields["csi"] != nil && mentionsStore(fields["csi"]) ||
		hasAgent(modelPod{spec: map[string]any{"containers": []any{value}}})
}

// TestProperty: whatever field of a manifest is renamed, moved or retyped, exit 0 means that the driver asks the same vault, as the
// same identity, for the same objects and writes the same files as the provider did.
func TestProperty(t *testing.T) {
	t.Parallel()
	files := corpus(t)
	found := violations{}
	var tries []try
	for _, f := range files {
		f.wrong = checkMigration(f.data)
		found.add(f, "no change", f.wrong)
		for _, m := range f.mutations() {
			tries = append(tries, try{f, m})
		}
	}
	done, all := 0, len(tries)
	for _, try := range mixed(tries) {
		data, err := try.file.mutate(try.mutation)
		if err != nil || data == nil {
			continue // not possible there
		}
		if wrong := checkMigration(data); wrong != nil && (try.file.wrong == nil || try.file.wrong.kind != wrong.kind) {
			found.add(try.file, try.mutation.field+": "+try.mutation.what, wrong)
		}
		if done++; done == sampled && !suite.Long() {
			break
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(found)) {
		t.Errorf("%s, %d times:\n%s", kind, len(found[kind]), strings.Join(found[kind][:min(len(found[kind]), 12)], "\n"))
	}
	suite.Verdict(t, "migrate: %d of %d changes of single fields in %d manifests, %d kinds of violation", done, all, len(files), len(found))
}

// try is one mutation of one file.
type try struct {
	file     *corpusFile
	mutation mutation
}

// mixed returns the mutations in an order that is random, but the same each time. It begins with one for each name of a field
// and each kind of change.
func mixed(tries []try) []try {
	random := rand.New(rand.NewPCG(14, 14))
	random.Shuffle(len(tries), func(i, j int) { tries[i], tries[j] = tries[j], tries[i] })
	var first, more []try
	seen := map[string]bool{}
	for _, t := range tries {
		group := t.mutation.field[strings.LastIndex(t.mutation.field, ".")+1:] + t.mutation.what
		if seen[group] {
			more = append(more, t)
		} else {
			first = append(first, t)
		}
		seen[group] = true
	}
	return slices.Concat(first, more)
}

// violations are what was found, by kind: the first of a kind with all details, the others with their places.
type violations map[string][]string

func (v violations) add(f *corpusFile, change string, wrong *violation) {
	if wrong == nil {
		return
	}
	text := f.name + ": " + change
	if len(v[wrong.kind]) == 0 {
		text += "\n" + wrong.detail
	}
	v[wrong.kind] = append(v[wrong.kind], text)
}
