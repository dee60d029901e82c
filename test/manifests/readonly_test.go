package manifests_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The driver refuses a volume without readOnly: true, so all examples must have it: documents, manifests, the chart's notes, and the output
// of kvcsi migrate.
func TestEveryVolumeIsReadOnly(t *testing.T) {
	t.Parallel()
	volumes := map[string]int{}
	for _, root := range []string{"README.md", "SECURITY.md", "charts", "deploy", "docs", "test", "pkg/migrate/testdata/golden"} {
		err := filepath.WalkDir(filepath.Join("../..", root), func(path string, e os.DirEntry, err error) error {
			endings := []string{".md", ".yaml", ".yml", ".json", ".txt", ".gotmpl", ".out"}
			if err != nil || e.IsDir() || !slices.Contains(endings, filepath.Ext(path)) {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, v := range volumesIn(string(text)) {
				volumes[strings.TrimPrefix(path, "../../")]++
				if !v.readOnly {
					t.Errorf("%s:%d: a volume without readOnly: true under csi", path, v.line)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{
		"README.md", "charts/keyvault-csi/templates/NOTES.txt", "docs/environment.md", "docs/identities.md", "docs/migration-agent.md", "docs/migration-azure-provider.md",
		"docs/quickstart/pod.yaml", "docs/reference.md", "pkg/migrate/testdata/golden/list.json.out", "pkg/migrate/testdata/golden/provider.yaml.out",
	} {
		if volumes[file] == 0 {
			t.Errorf("no volume was found in %s", file)
		}
	}
}

// written is a volume of this driver in a text.
type written struct {
	line     int
	readOnly bool
}

var (
	ofThisDriver = regexp.MustCompile(`"?\bdriver"?: *"?(keyvault-csi\.io\b|\{\{ \.Values\.driverName \}\})`)
	isReadOnly   = regexp.MustCompile(`(^|[{,\s"])readOnly"?: *true\b`)
	removed      = regexp.MustCompile(`^-  `) // a removed line of a diff; a YAML list has one space there
)

// volumesIn finds the keys beside each driver: keyvault-csi.io. It does not parse YAML, because most of these texts are only partly YAML:
// documents, templates, diffs, commands.
func volumesIn(text string) []written {
	var found []written
	lines := strings.Split(text, "\n")
	offset := 0
	for i, line := range lines {
		for _, at := range ofThisDriver.FindAllStringIndex(line, -1) {
			var beside string
			if start := opening(text[:offset+at[0]]); line[at[0]] == '"' || start >= offset {
				beside = braces(text[max(start, 0):])
			} else {
				beside = block(lines, i, column(line))
			}
			found = append(found, written{line: i + 1, readOnly: isReadOnly.MatchString(beside)})
		}
		offset += len(line) + 1
	}
	return found
}

// opening returns the index of the last open brace at the end of text, or -1.
func opening(text string) int {
	for closed, i := 0, len(text)-1; i >= 0; i-- {
		switch {
		case text[i] == '}':
			closed++
		case text[i] == '{' && closed == 0:
			return i
		case text[i] == '{':
			closed--
		}
	}
	return -1
}

// braces returns the content of the braces at the start of text, without nested braces.
func braces(text string) string {
	var direct strings.Builder
	depth := 0
	for _, r := range text {
		switch r {
		case '{':
			depth++
		case '}':
			depth--
		}
		if depth == 0 {
			break
		}
		if depth == 1 {
			direct.WriteRune(r)
		}
	}
	return direct.String()
}

// block returns the lines of the mapping that contains line i, at the given column.
func block(lines []string, i, at int) string {
	beside := []string{lines[i]}
	for _, step := range []int{-1, 1} {
		for j := i + step; j >= 0 && j < len(lines); j += step {
			line := strings.TrimSuffix(lines[j], "\r")
			if removed.MatchString(line) {
				continue
			}
			if column(line) < at {
				break
			}
			if column(line) == at {
				beside = append(beside, line)
			}
		}
	}
	return strings.Join(beside, "\n")
}

// column returns the column of the first key of the line, behind the sign of a diff and the dash of a list.
func column(line string) int {
	return len(line) - len(strings.TrimLeft(line, " +-"))
}

func TestVolumesIn(t *testing.T) {
	t.Parallel()
	const volume = "volumes:\n- name: secrets\n  csi:\n    driver: keyvault-csi.io\n"
	for name, c := range map[string]struct {
		text string
		want []written
	}{
		"none":              {"- name: keyvault-csi.io\n  driver: other.example.com\n", nil},
		"after":             {volume + "    volumeAttributes:\n      vault: a\n    readOnly: true\n", []written{{4, true}}},
		"before":            {"- csi:\n    readOnly: true\n    driver: keyvault-csi.io\n", []written{{3, true}}},
		"missing":           {volume + "    volumeAttributes:\n      vault: a\n", []written{{4, false}}},
		"false":             {volume + "    readOnly: false\n", []written{{4, false}}},
		"of another volume": {volume + "- name: other\n  csi:\n    driver: other.example.com\n    readOnly: true\n", []written{{4, false}}},
		"of a mount":        {"volumeMounts:\n- {name: a, mountPath: /a, readOnly: true}\n" + volume, []written{{6, false}}},
		"too high":          {"- name: secrets\n  readOnly: true\n  csi:\n    driver: keyvault-csi.io\n", []written{{4, false}}},
		"too low":           {volume + "    volumeAttributes:\n      readOnly: true\n", []written{{4, false}}},
		"flow":              {"- {name: a, csi: {driver: keyvault-csi.io, readOnly: true}}\n", []written{{1, true}}},
		"flow, missing":     {"- {name: a, readOnly: true, csi: {driver: keyvault-csi.io, volumeAttributes: {readOnly: true}}}\n", []written{{1, false}}},
		"JSON":              {"{\"csi\": {\n  \"driver\": \"keyvault-csi.io\",\n  \"readOnly\": true}}\n", []written{{2, true}}},
		"JSON, missing":     {"{\"readOnly\": true, \"csi\": {\n  \"driver\": \"keyvault-csi.io\"}}\n", []written{{2, false}}},
		"diff":              {"   csi:\n-    driver: other\n-    readOnly: true\n+    driver: keyvault-csi.io\n+    readOnly: true\n", []written{{4, true}}},
		"diff, taken away":  {"   csi:\n-    readOnly: true\n+    driver: keyvault-csi.io\n", []written{{3, false}}},
	} {
		if diff := cmp.Diff(c.want, volumesIn(c.text), cmp.AllowUnexported(written{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
