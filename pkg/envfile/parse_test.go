package envfile_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/pkg/envfile"
)

// good are texts with their variables.
var good = []struct {
	name, text string
	want       []envfile.Variable
}{
	{"nothing", "", nil},
	{"one", "A='x'\n", []envfile.Variable{{Name: "A", Value: "x"}}},
	{"no last line end", "A='x'", []envfile.Variable{{Name: "A", Value: "x"}}},
	{"order", "B='1'\nA='2'\n", []envfile.Variable{{Name: "B", Value: "1"}, {Name: "A", Value: "2"}}},
	{"empty", "A=''\n", []envfile.Variable{{Name: "A"}}},
	{"empty without quotes", "A= \nB=\t# none\nC= ", []envfile.Variable{{Name: "A"}, {Name: "B"}, {Name: "C"}}},
	{"comments", "# one\n \t# two='\nA='x' # three's\n#", []envfile.Variable{{Name: "A", Value: "x"}}},
	{"empty lines", "\n \t\nA='x'\t \n\n", []envfile.Variable{{Name: "A", Value: "x"}}},
	{"indented", " \tA='x'\n", []envfile.Variable{{Name: "A", Value: "x"}}},
	{"names", "_='1'\nabc_1='2'\n__A9='3'\n", []envfile.Variable{{Name: "_", Value: "1"}, {Name: "abc_1", Value: "2"}, {Name: "__A9", Value: "3"}}},
	{"many lines", "A='1\n\n# 3\nB=4\n'\nC='5'\n", []envfile.Variable{{Name: "A", Value: "1\n\n# 3\nB=4\n"}, {Name: "C", Value: "5"}}},
	{"literal", `A='$HOME ${B} $(id) ` + "`id`" + ` \n \\ "x" # ; & | ! * ~ = '` + "\n",
		[]envfile.Variable{{Name: "A", Value: `$HOME ${B} $(id) ` + "`id`" + ` \n \\ "x" # ; & | ! * ~ = `}}},
	{"backslash at the end", "A='x\\'\nB='\\\n'\n", []envfile.Variable{{Name: "A", Value: `x\`}, {Name: "B", Value: "\\\n"}}},
	{"blanks", "A=' x\t'\n", []envfile.Variable{{Name: "A", Value: " x\t"}}},
	{"other controls", "A='\r\v\f\x01\x7f\x1b[0m'\n", []envfile.Variable{{Name: "A", Value: "\r\v\f\x01\x7f\x1b[0m"}}},
	{"UTF-8", "A='ståple 🔑'\n# ø\n", []envfile.Variable{{Name: "A", Value: "ståple 🔑"}}},
	{"longest", "A='" + strings.Repeat("x", envfile.MaxVariable-2) + "'", []envfile.Variable{{Name: "A", Value: strings.Repeat("x", envfile.MaxVariable-2)}}},
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, test := range good {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := envfile.Parse(test.text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// secret is in every text that is refused, and in no error.
const secret = "hunter2"

func TestRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text, want string }{
		{"no =", "A='x'\nhunter2\n", "line 2: there is no '='; write NAME='value', or put a '#' before a comment"},
		{"no quotes", "A=hunter2\n", "line 1: the value is not in single quotes; write NAME='value'"},
		{"nothing after =", "#hunter2\nA=\n", "line 2: the value is not in single quotes; write NAME='value'"},
		{"double quotes", "A=\"hunter2\"\n", "line 1: the value is not in single quotes; write NAME='value'"},
		{"end of a base64 value", "A=\"\naHVudGVyMg==\n\" hunter2", "line 1: the value is not in single quotes; write NAME='value'"},
		{"blank before =", "A ='hunter2'\n", "line 1: there is a blank before the '='; remove it"},
		{"blank after =", "A= 'hunter2'\n", "line 1: there is a blank after the '='; remove it"},
		{"no name", "='hunter2'\n",
			"line 1: the name is not one of a shell; write NAME='value', with a name of letters, digits and underscores"},
		{"digit first", "1A='hunter2'\n",
			"line 1: the name is not one of a shell; write NAME='value', with a name of letters, digits and underscores"},
		{"hyphen", "hunter2-A='x'\n",
			"line 1: the name is not one of a shell; write NAME='value', with a name of letters, digits and underscores"},
		{"export", "export A='hunter2'\n",
			"line 1: the name is not one of a shell; write NAME='value', with a name of letters, digits and underscores"},
		{"byte order mark", "\ufeffA='hunter2'\n",
			"line 1: the name is not one of a shell; write NAME='value', with a name of letters, digits and underscores"},
		{"never closed", "A='x'\n\nB='hunter2\n\n", "line 3: the single quote at the begin of the value is never closed"},
		{"quote in a value", "A='\nit's hunter2'\n",
			"line 1: there is something after the closing quote; a value cannot contain a single quote"},
		{"escaped quote", `A='it'\''s hunter2'`,
			"line 1: there is something after the closing quote; a value cannot contain a single quote"},
		{"two in a line", "A='x' B='hunter2'\n",
			"line 1: there is something after the closing quote; a value cannot contain a single quote"},
		{"comment without a blank", "A='hunter2'# why\n",
			"line 1: there is no blank between the value and the '#'; add one before a comment"},
		{"twice", "A='hunter2'\nB='\n'\nA='hunter2'\n", "line 4: A is already in line 1; remove one of the two"},
		{"line ends of Windows", "A='hunter2'\r\n", "line 1: it ends with a carriage return; save the file with the line ends of Unix"},
		{"line ends of Windows in a value", "A='hunter2\n\r\n'\n",
			"line 2: it ends with a carriage return; save the file with the line ends of Unix"},
		{"last carriage return", "A='hunter2'\r", "line 1: it ends with a carriage return; save the file with the line ends of Unix"},
		{"NUL", "A='hunter2\n\x00'\n", "line 2: it contains a NUL, which no environment variable can hold"},
		{"not UTF-8", "\nA='hunter2\xff'\n", "line 2: it is not UTF-8"},
		{"too long", "\nA='hunter2" + strings.Repeat("x", envfile.MaxVariable-8) + "'",
			"line 2: A is too long: NAME=value has 131072 bytes, and Linux passes at most 131071 to a program"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := envfile.Parse(test.text)
			if err == nil {
				t.Fatalf("it was read as %d variables", len(got))
			}
			if err.Error() != test.want {
				t.Errorf("the error is\n%s, want\n%s", err, test.want)
			}
			if !strings.Contains(test.text, secret) || strings.Contains(err.Error(), secret) {
				t.Errorf("the secret must be in the text and not in the error")
			}
		})
	}
}

// FuzzParse checks that what is read can be written and read again, and that no error holds more of the text than a name.
func FuzzParse(f *testing.F) {
	for _, test := range good {
		f.Add(test.text)
	}
	f.Add("A='1'\nA='2'")
	f.Add("A= '1'")
	f.Add("A='1'#2\r\n\x00")
	f.Fuzz(func(t *testing.T, text string) {
		variables, err := envfile.Parse(text)
		if err != nil {
			if variables != nil || !strings.HasPrefix(err.Error(), "line ") || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%d variables and the error %q", len(variables), err)
			}
			return
		}
		var written strings.Builder
		for _, v := range variables {
			if strings.ContainsAny(v.Value, "'\x00") {
				t.Fatalf("%s holds a quote or a NUL", v.Name)
			}
			written.WriteString(v.Name + "='" + v.Value + "'\n")
		}
		again, err := envfile.Parse(written.String())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(variables, again); diff != "" {
			t.Errorf("(-first +again)\n%s", diff)
		}
	})
}
