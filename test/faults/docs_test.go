package faults_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
)

// page has the table for users. KEYVAULT_CSI_UPDATE=1 updates it.
const page = "../../docs/faults.md"

func TestTheTableIsDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), "\n| fault |")
	if !found {
		t.Fatalf("%s has no table", page)
	}
	rows, after, _ := strings.Cut(rest, "\n\n")
	documented := "| fault |" + rows + "\n"
	if os.Getenv("KEYVAULT_CSI_UPDATE") != "" {
		if err := os.WriteFile(page, []byte(before+"\n"+markdown()+"\n"+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(documented, markdown()); diff != "" {
		t.Errorf("%s and the table differ (-documented +tested):\n%s\nKEYVAULT_CSI_UPDATE=1 go test ./test/faults -run %s", page, diff, t.Name())
	}
}

// markdown is the table for users.
func markdown() string {
	var b strings.Builder
	b.WriteString("| fault | first publish | refresh | the line says | do |\n| --- | --- | --- | --- | --- |\n")
	for _, f := range table {
		first, refresh := "`"+f.code.String()+"`", "`OK`, later `Unavailable`"
		if f.healed {
			refresh = first
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", f.name, first, refresh, f.line(), f.advice)
	}
	return b.String()
}

func (f fault) line() string {
	if f.healed {
		return "–"
	}
	quoted := func(text string) string {
		return "`" + strings.NewReplacer("{host}", "HOST", "{tenant}", "TENANT").Replace(text) + "`"
	}
	said := quoted(f.says)
	if f.code == codes.DeadlineExceeded {
		said = "`not ready within the volume's timeout of …`: " + said
	}
	if f.again != "" {
		said += "; at a refresh " + quoted(f.again)
	}
	return said
}

// TestTheTable checks that each row of the table is complete.
func TestTheTable(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, f := range table {
		if seen[f.name] {
			t.Errorf("%s: twice", f.name)
		}
		seen[f.name] = true
		if f.healed == (f.says != "") || f.healed != (f.code == codes.OK) || f.advice == "" {
			t.Errorf("%s: needs either healed or a code and a text, and an advice", f.name)
		}
	}
}
