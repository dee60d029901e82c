package envfile_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/pkg/envfile"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/values"
)

// TestWritten: Parse reads every file that the driver writes, with the same values. What the driver refuses, Parse refuses too or reads
// as something else, except what only Kubernetes' fileKeyRef does not pass on: an empty value and a long line.
func TestWritten(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	var entries []values.Entry
	var all []envfile.Variable
	refused := 0
	for i := range 5000 {
		v := envfile.Variable{Name: fmt.Sprintf("V%d", i), Value: randomValue(random)}
		var file strings.Builder
		if err := values.Env(&file, []values.Entry{{Name: v.Name, Data: []byte(v.Value)}}); err != nil {
			refused++
			onlyKubernetes := v.Value == "" || strings.Contains(err.Error(), "64 KiB")
			got, parseErr := envfile.Parse(v.Name + "='" + v.Value + "'\n")
			if same := parseErr == nil && slices.Equal(got, []envfile.Variable{v}); same && !onlyKubernetes {
				t.Errorf("%.100q: the driver says %q, and Parse reads it", v.Value, err)
			}
			continue
		}
		got, err := envfile.Parse(file.String())
		if err != nil || len(got) != 1 || got[0] != v {
			t.Errorf("%.100q is written, and read as %.100q, %v", v.Value, got, err)
		}
		if len(v.Value) < 100 {
			entries, all = append(entries, values.Entry{Name: v.Name, Data: []byte(v.Value)}), append(all, v)
		}
	}
	if refused < 500 || len(all) < 500 {
		t.Errorf("%d values are refused and %d small ones written: too few to compare", refused, len(all))
	}
	var file strings.Builder
	if err := values.Env(&file, entries); err != nil {
		t.Fatal(err)
	}
	got, err := envfile.Parse(file.String())
	if diff := cmp.Diff(all, got); err != nil || diff != "" {
		t.Errorf("%v (-written +read)\n%s", err, diff)
	}
}

// randomValue returns a value of a few parts that matter to a reader. One in fifty is about as long as a line or a variable can be.
func randomValue(random *rand.Rand) string {
	parts := []string{
		"a", "1", " ", "\t", "\n", "\n", "\r", "\r\n", "'", "''", "\x00", "\xff", "\xed\xa0\x80", "\"", "\\", "$", "`", "#", " #", "=", "X='1'", "\nX=",
		"é", "\ufeff", "\u2028", "😀", "\x01", "\x7f",
	}
	var b strings.Builder
	for range random.IntN(8) {
		b.WriteString(parts[random.IntN(len(parts))])
	}
	if random.IntN(50) == 0 {
		line := strings.Repeat("x", []int{99, 64<<10 - 20, 64 << 10}[random.IntN(3)]) + "\n"
		limit := []int{64 << 10, 128 << 10}[random.IntN(2)]
		long := strings.Repeat(line, limit/len(line)+2)
		b.WriteString(long[:limit-20+random.IntN(30)])
	}
	return b.String()
}
