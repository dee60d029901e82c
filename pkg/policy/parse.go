package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// The document as an operator writes it. Pointers tell a list that was left out from an empty one.
type (
	document struct {
		Rules *[]ruleText `yaml:"rules"`
	}
	ruleText struct {
		Effect          string    `yaml:"effect"`
		Namespaces      *[]string `yaml:"namespaces"`
		ServiceAccounts *[]string `yaml:"serviceAccounts"`
		Identities      *[]string `yaml:"identities"`
		ClientIDs       *[]string `yaml:"clientIDs"`
		Vaults          *[]string `yaml:"vaults"`
	}
)

// Parse reads a policy from YAML, strictly: a field or a word that nobody knows is an error, because a rule that is not
// read as it was meant opens or closes what it should not. An empty text is no policy either; "rules: []" is one that
// refuses everything. The error is one line.
func Parse(text []byte) (*Policy, error) {
	p, err := parse(text)
	if err != nil {
		return nil, errors.New(oneLine(err.Error()))
	}
	return p, nil
}

func parse(text []byte) (*Policy, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	var d document
	switch err := decoder.Decode(&d); {
	case errors.Is(err, io.EOF):
		return nil, errors.New("is empty; a policy that refuses everything is written rules: []")
	case err != nil:
		return nil, plain(err)
	case d.Rules == nil:
		return nil, errors.New("rules: is missing; a policy that refuses everything is written rules: []")
	}
	if err := decoder.Decode(&document{}); !errors.Is(err, io.EOF) {
		return nil, errors.New("holds more than one YAML document")
	}
	if err := checkValues(text); err != nil {
		return nil, err
	}
	p := &Policy{}
	for i, text := range *d.Rules {
		rule, err := text.rule()
		if err != nil {
			return nil, fmt.Errorf("rules[%d].%w", i, err)
		}
		p.rules = append(p.rules, rule)
	}
	return p, nil
}

// checkValues refuses a field without a value, which is one whose list somebody has commented out: left out it would match everything, as
// nobody has written.
func checkValues(text []byte) error {
	var d struct {
		Rules []map[string]yaml.Node `yaml:"rules"`
	}
	if err := yaml.Unmarshal(text, &d); err != nil {
		return plain(err)
	}
	for i, rule := range d.Rules {
		for _, field := range slices.Sorted(maps.Keys(rule)) {
			if value := rule[field]; value.ShortTag() == "!!null" {
				return fmt.Errorf("rules[%d].%s: has no value; write one, or leave the field out", i, field)
			}
		}
	}
	return nil
}

var goType = regexp.MustCompile(` (in type|into) \S+`)

// maxText bounds an error, which may repeat what stands in a file of any size.
const maxText = 4 << 10

// oneLine takes the control characters out of a text that goes to a log and a terminal; the YAML library repeats them.
func oneLine(text string) string {
	if len(text) > maxText {
		text = text[:maxText] + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}

// plain makes one line of an error of the YAML library, without its words for Go's types.
func plain(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	text = strings.TrimPrefix(text, "unmarshal errors:\n")
	text = goType.ReplaceAllString(text, "")
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return errors.New(strings.Join(lines, "; "))
}

// rule checks what an operator wrote. Its error begins with the field.
func (t ruleText) rule() (rule, error) {
	r := rule{deny: t.Effect == "deny"}
	if !slices.Contains([]string{"", "allow", "deny"}, t.Effect) {
		return r, fmt.Errorf("effect: %q is neither allow nor deny", t.Effect)
	}
	var identities []string
	for _, list := range []struct {
		field    string
		from     *[]string
		to       *[]string
		required bool
		check    func(string) (string, error)
	}{
		{"namespaces", t.Namespaces, &r.namespaces, true, asWritten},
		{"serviceAccounts", t.ServiceAccounts, &r.serviceAccounts, false, asWritten},
		{"identities", t.Identities, &identities, true, identityWord},
		{"clientIDs", t.ClientIDs, &r.clientIDs, false, inLowerCase},
		{"vaults", t.Vaults, &r.vaults, false, vaultGlob},
	} {
		switch {
		case list.from == nil && list.required:
			return r, fmt.Errorf("%s: is missing", list.field)
		case list.from == nil:
			continue
		case len(*list.from) == 0:
			return r, fmt.Errorf("%s: is an empty list, which matches nothing", list.field)
		}
		for i, text := range *list.from {
			checked, err := list.check(text)
			if err != nil {
				return r, fmt.Errorf("%s[%d]: %w", list.field, i, err)
			}
			*list.to = append(*list.to, checked)
		}
	}
	for _, word := range identities {
		r.identities = append(r.identities, volume.IdentityKind(word))
	}
	return r, r.check()
}

// check refuses a denial of some of the node's identities, which would be as good as its list of their ids is complete:
// each has three. What may be used can be listed without a hole, because what is not listed is refused.
func (r rule) check() error {
	if r.deny && r.clientIDs != nil && !r.anybody() && slices.ContainsFunc(r.identities, ofTheNode) {
		return errors.New("clientIDs: a rule that denies managed or cluster names no ids; leave clientIDs out to deny all of them, " +
			"or write rules that allow the ids which may be used: what no rule allows is refused")
	}
	return nil
}

func asWritten(text string) (string, error) {
	if text == "" {
		return "", errors.New("is empty")
	}
	return text, nil
}

// inLowerCase: GUIDs and Azure's resource ids are the same in either case.
func inLowerCase(text string) (string, error) { return asWritten(strings.ToLower(text)) }

func identityWord(text string) (string, error) {
	known := []volume.IdentityKind{volume.Workload, volume.ServicePrincipal, volume.Managed, volume.Cluster}
	if !slices.Contains(known, volume.IdentityKind(text)) {
		return "", fmt.Errorf("%q is none of workload, servicePrincipal, managed and cluster", text)
	}
	return text, nil
}

// vaultGlob refuses what could match no vault: in a denial it would be a hole.
func vaultGlob(text string) (string, error) {
	glob := strings.TrimSuffix(strings.ToLower(text), "/")
	if !strings.HasPrefix(glob, "https://") && !strings.HasPrefix(glob, "*") {
		return "", fmt.Errorf("%q does not begin with https:// as every vault does, nor with *", text)
	}
	host, exact := strings.CutPrefix(glob, "https://")
	if !exact {
		_, host, _ = strings.Cut(glob, ".") // what comes before may stand for https://
	}
	if strings.ContainsAny(host, ":/") {
		return "", fmt.Errorf("%q has a port or a path, and so matches no vault", text)
	}
	return glob, nil
}
