package daemon_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/providerclass"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// The tests in this file compare docs/reference.md with the program.

// documented returns the first cells of the table rows below a heading of docs/reference.md, without backquotes.
func documented(t *testing.T, heading string) []string {
	t.Helper()
	_, section, found := strings.Cut(node.ReadFile(t, "../../docs/reference.md"), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("docs/reference.md has no heading %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var cells []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)`").FindAllStringSubmatch(section, -1) {
		cells = append(cells, row[1])
	}
	slices.Sort(cells)
	return cells
}

func TestFlagsAreDocumented(t *testing.T) {
	t.Parallel()
	binary, err := node.DaemonBinary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	help, err := exec.CommandContext(t.Context(), binary, "--help").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	var flags []string
	for _, flag := range regexp.MustCompile(`(?m)^  -(\S+)`).FindAllStringSubmatch(string(help), -1) {
		flags = append(flags, "--"+flag[1])
	}
	slices.Sort(flags)
	if diff := cmp.Diff(documented(t, "Flags of the driver"), flags); diff != "" {
		t.Errorf("docs/reference.md and --help differ (-documented +program):\n%s", diff)
	}
}

func TestAttributesAreDocumented(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "../../pkg/volume/attributes.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	attributes := []string{"downloadCACertificates.NAME"}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Attribute") {
			return true
		}
		for _, value := range spec.Values {
			if literal, ok := value.(*ast.BasicLit); ok {
				name, err := strconv.Unquote(literal.Value)
				if err != nil {
					t.Error(err)
				}
				attributes = append(attributes, name)
			}
		}
		return true
	})
	slices.Sort(attributes)
	if diff := cmp.Diff(documented(t, "Attributes"), attributes); diff != "" {
		t.Errorf("docs/reference.md and pkg/volume differ (-documented +program):\n%s", diff)
	}
}

// The chart's policy for volumes refuses what it does not know, so it must know all of the attributes.
func TestThePolicyOfVolumesKnowsTheAttributes(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"../../charts/keyvault-csi/snapshots/admission.yaml", "../../deploy/admission/volumes.yaml"} {
		_, list, _ := strings.Cut(node.ReadFile(t, file), "- name: attributes\n")
		list, _, _ = strings.Cut(list, "]")
		attributes := []string{"downloadCACertificates.NAME"} // by its prefix
		for _, name := range regexp.MustCompile(`'(\w+)'`).FindAllStringSubmatch(list, -1) {
			attributes = append(attributes, name[1])
		}
		slices.Sort(attributes)
		if diff := cmp.Diff(documented(t, "Attributes"), attributes); diff != "" {
			t.Errorf("docs/reference.md and %s differ (-documented +policy):\n%s", file, diff)
		}
	}
}

// literals returns the strings in the value of a variable.
func literals(t *testing.T, path, variable string) (texts []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && spec.Names[0].Name == variable {
			ast.Inspect(spec.Values[0], func(n ast.Node) bool {
				if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
					texts = append(texts, strings.Trim(literal.Value, `"`))
				}
				return true
			})
		}
		return true
	})
	return texts
}

func TestFieldsAreDocumented(t *testing.T) {
	t.Parallel()
	fields := slices.Sorted(slices.Values(literals(t, "../../pkg/volume/objects.go", "objectKinds")))
	kinds := []string{"secret", "secrets", "certificate", "env", "json", "properties"} // they name the objects; key is also a file of a certificate
	fields = slices.DeleteFunc(slices.Compact(fields), func(name string) bool { return slices.Contains(kinds, name) })
	rows := documented(t, "Structured objects")
	rows = slices.DeleteFunc(rows, func(name string) bool { return name == "prefix" }) // of secrets, not of an object
	if diff := cmp.Diff(rows, fields); diff != "" {
		t.Errorf("docs/reference.md and pkg/volume differ (-documented +program):\n%s", diff)
	}
}

func TestClassesAreDocumented(t *testing.T) {
	t.Parallel()
	names := append(providerclass.Parameters(), providerclass.ObjectFields()...)
	names = append(names, "usePodServiceAccountAnnotation", "objectNotAfter") // of later versions, refused
	slices.Sort(names)
	if diff := cmp.Diff(documented(t, "Provider mode: parameters and objects"), names); diff != "" {
		t.Errorf("docs/reference.md and pkg/providerclass differ (-documented +program):\n%s", diff)
	}
}

// TestEntryFieldsAreDocumented compares the fields of the entries of a file of values.
func TestEntryFieldsAreDocumented(t *testing.T) {
	t.Parallel()
	fields := slices.Compact(slices.Sorted(slices.Values(literals(t, "../../pkg/volume/values.go", "entryFields"))))
	if diff := cmp.Diff(documented(t, "Files of several values"), fields); diff != "" {
		t.Errorf("docs/reference.md and pkg/volume differ (-documented +program):\n%s", diff)
	}
}

func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	n.Vault.SetSecret("db-password", "hunter2", devcloud.SecretOptions{})
	if _, err := n.Vault.SetCertificate("web-tls", devcloud.CertificateOptions{}); err != nil {
		t.Fatal(err)
	}
	n.MustPublish(t, workload("secrets", "db-password;web-tls"))
	_, page, err := n.Get(t.Context(), "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	var metrics []string
	for _, name := range regexp.MustCompile(`(?m)^# TYPE (keyvault_csi_\S+)`).FindAllStringSubmatch(page, -1) {
		metrics = append(metrics, name[1])
	}
	slices.Sort(metrics)
	all := documented(t, "Health and metrics")
	all = slices.DeleteFunc(all, func(name string) bool { return strings.HasPrefix(name, "/") })
	if diff := cmp.Diff(all, metrics); diff != "" {
		t.Errorf("docs/reference.md and /metrics differ (-documented +program):\n%s", diff)
	}
}
