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

	"go.yaml.in/yaml/v3"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// maxText bounds an error, in bytes: it may repeat parts of the file.
const maxText = 4 << 10

type document struct {
	RefreshAfter instant `yaml:"refreshAfter"`
	Rules        *[]rule `yaml:"rules"` // nil if it is missing
}

// Parse reads a policy from YAML, strictly: an unknown field or word is an error, because a rule that is not read as it was
// meant allows or refuses the wrong pods. An empty text is an error; "rules: []" refuses everything. The error is one line.
func Parse(text []byte) (*Policy, error) {
	p, err := parse(text)
	if err != nil {
		return nil, errors.New(volume.OneLine(err.Error(), maxText))
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
	if err := decoder.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return nil, errors.New("holds more than one YAML document")
	}
	if err := checkNulls(text); err != nil {
		return nil, err
	}
	if err := d.RefreshAfter.check(); err != nil {
		return nil, err
	}
	for i := range *d.Rules {
		if err := (*d.Rules)[i].check(); err != nil {
			return nil, fmt.Errorf("rules[%d].%w", i, err)
		}
	}
	return &Policy{rules: *d.Rules, refreshAfter: d.RefreshAfter}, nil
}

// checkNulls refuses a field without a value, such as a list that is commented out: the rule would match more than was
// meant.
func checkNulls(text []byte) error {
	var document struct {
		RefreshAfter yaml.Node              `yaml:"refreshAfter"`
		Rules        []map[string]yaml.Node `yaml:"rules"`
	}
	if err := yaml.Unmarshal(text, &document); err != nil {
		return plain(err)
	}
	if value := document.RefreshAfter; value.ShortTag() == "!!null" && !value.IsZero() {
		return errors.New("refreshAfter: has no value; write one, or leave the field out")
	}
	for i, rule := range document.Rules {
		for _, field := range slices.Sorted(maps.Keys(rule)) {
			if value := rule[field]; value.ShortTag() == "!!null" {
				return fmt.Errorf("rules[%d].%s: has no value; write one, or leave the field out", i, field)
			}
		}
	}
	return nil
}

var goType = regexp.MustCompile(` (in type|into) \S+`)

// plain removes the names of Go's types and the line breaks from an error of the YAML library.
func plain(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	text = strings.TrimPrefix(text, "unmarshal errors:\n  ")
	return errors.New(strings.ReplaceAll(goType.ReplaceAllString(text, ""), "\n  ", "; "))
}

// check checks the fields and normalizes their values. Its error begins with the name of the field.
func (r *rule) check() error {
	if !slices.Contains([]string{"", "allow", "deny"}, r.Effect) {
		return fmt.Errorf("effect: %q is neither allow nor deny", r.Effect)
	}
	for _, list := range []struct {
		field    string
		values   []string
		required bool
		check    func(string) (string, error)
	}{
		{"namespaces", r.Namespaces, true, nameGlob},
		{"serviceAccounts", r.ServiceAccounts, false, nameGlob},
		{"identities", r.Identities, true, identityKind},
		{"clientIDs", r.ClientIDs, false, lowerCase},
		{"vaults", r.Vaults, false, vaultGlob},
	} {
		switch {
		case list.values == nil && list.required:
			return fmt.Errorf("%s: is missing", list.field)
		case list.values != nil && len(list.values) == 0:
			return fmt.Errorf("%s: is an empty list, which matches nothing", list.field)
		}
		for i, text := range list.values {
			var err error
			if list.values[i], err = list.check(text); err != nil {
				return fmt.Errorf("%s[%d]: %w", list.field, i, err)
			}
		}
	}
	if err := r.checkRefreshAfter(); err != nil {
		return err
	}
	// Each identity of the node has three ids, so a list of denied ids is never complete. A list of allowed ids need not be.
	if r.deny() && r.ClientIDs != nil && !r.matchesAnyID() && slices.ContainsFunc(r.Identities, ofTheNode) {
		return errors.New("clientIDs: a rule that denies managed or cluster names no ids; leave clientIDs out to deny all of them, " +
			"or write rules that allow the ids which may be used: what no rule allows is refused")
	}
	return nil
}

func notEmpty(text string) (string, error) {
	if text == "" {
		return "", errors.New("is empty")
	}
	return text, nil
}

// nameGlob refuses what matches no namespace and no service account, such as namespace/name: a denial would have no effect.
func nameGlob(text string) (string, error) {
	if strings.Trim(text, "abcdefghijklmnopqrstuvwxyz0123456789-.*") != "" {
		return "", fmt.Errorf("%q matches no name in Kubernetes, which has lower-case letters, digits, - and . only", text)
	}
	return notEmpty(text)
}

// lowerCase is for GUIDs and Azure's resource ids, which are the same in either case.
func lowerCase(text string) (string, error) { return notEmpty(strings.ToLower(text)) }

func identityKind(text string) (string, error) {
	switch volume.IdentityKind(text) {
	case volume.Workload, volume.ServicePrincipal, volume.Managed, volume.Cluster:
		return text, nil
	}
	return "", fmt.Errorf("%q is none of workload, servicePrincipal, managed and cluster", text)
}

// vaultGlob refuses what matches no vault: a denial would have no effect.
func vaultGlob(text string) (string, error) {
	glob := strings.TrimSuffix(strings.ToLower(text), "/")
	host, isURL := strings.CutPrefix(glob, "https://")
	switch {
	case isURL:
	case strings.HasPrefix(glob, "*"):
		_, host, _ = strings.Cut(glob, ".") // what comes before may match https://
	default:
		return "", fmt.Errorf("%q does not begin with https:// as every vault does, nor with *", text)
	}
	switch {
	case strings.ContainsAny(host, ":/"):
		return "", fmt.Errorf("%q has a port or a path, and so matches no vault", text)
	case isURL && !strings.ContainsAny(host, ".*"):
		return "", fmt.Errorf("%q has no domain, and so matches no vault; write all of it, such as https://NAME.vault.azure.net", text)
	}
	return glob, nil
}
