package migrate

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// File is one manifest file: any number of YAML documents, or JSON.
type File struct {
	Name string // for findings: a path, or "-"
	Data []byte
}

// Options of [Migrate].
type Options struct {
	// Container is the name of the init container that is the agent, if its image, command and variables do not show it.
	Container string

	// RemoveClasses removes the classes whose pods were all migrated. Pods in other files may use them.
	RemoveClasses bool

	// SyncImage is the image of keyvault-csi-sync. If it is set, the Secrets of a class (secretObjects) are kept by it, and their readers stay as
	// they are.
	SyncImage string
}

// Level says how much of a [Finding]'s object was migrated.
type Level int

// The levels. Everything above Note needs a decision of the user.
const (
	Note        Level = iota // migrated; something to know, or to do as well
	Lost                     // migrated except for what the finding says
	NotMigrated              // the object is not changed
)

func (l Level) String() string { return [...]string{"note", "not carried over", "not migrated"}[l] }

// Finding is a message to the user.
type Finding struct {
	File   string
	Line   int    // beginning at 1
	Object string // "Deployment shop/web"
	Level  Level
	Text   string // one line, without any secret
}

// String returns the finding with its position, on one line.
func (f Finding) String() string {
	return fmt.Sprintf("%s:%d: %s: %s: %s", f.File, f.Line, f.Level, f.Object, f.Text)
}

// Result is the result of [Migrate].
type Result struct {
	Files     []File     // in the order of the input; those with nothing to migrate are identical
	Migrated  int        // the number of objects with a pod that were changed
	Workloads []Workload // those with a volume of the other driver, or an agent; and what else is left of them
	Findings  []Finding
}

// Workload is a pod, or an object with a pod template, that uses one of the other tools. What is left elsewhere, such as in values of Helm,
// is one as well, which is not moved.
type Workload struct {
	File   string
	Line   int
	Object string   // "Deployment shop/web"
	Moved  bool     // false: it stays as it is
	Why    []string // for which reasons it stays: the texts of findings
}

// Migrate replaces the agent, and volumes of the Azure provider, by this driver's volume, in pods and in objects with a pod
// template of any kind. A SecretProviderClass must be among the files. What is left of the other tools in the result, and is not
// understood, is reported: a result without a finding above [Note] lacks nothing.
//
// It returns an error if a file is not YAML; then nothing is migrated. A template of Helm that is no YAML is reported, and stays.
func Migrate(files []File, o Options) (Result, error) {
	m := &migration{options: o}
	for _, file := range files {
		s, err := parse(file)
		if _, template := errors.AsType[templateError](err); template {
			s = &stream{file: file, text: newText(nil)}
			m.left(Finding{File: file.Name, Line: 1, Object: "file " + printable(file.Name), Level: NotMigrated, Text: templateAdvice})
		} else if err != nil {
			return Result{}, err
		}
		m.streams = append(m.streams, s)
	}
	m.collect()
	for _, w := range m.workloads {
		m.migrate(w)
	}
	if o.Container != "" && !m.named {
		m.findings = append(m.findings, Finding{
			File: m.streams[0].file.Name, Line: 1, Object: "all", Level: NotMigrated,
			Text: fmt.Sprintf("no pod has an init container %q", o.Container),
		})
	}
	m.addSync()
	m.retireClasses()
	r := Result{Migrated: m.migrated}
	for _, s := range m.streams {
		data, documents, err := s.apply()
		if err != nil {
			m.findings = slices.DeleteFunc(m.findings, func(f Finding) bool { return f.File == s.file.Name && f.Level != NotMigrated })
			m.findings = append(m.findings, Finding{
				File: s.file.Name, Line: 1, Object: "the file", Level: NotMigrated,
				Text: "its YAML cannot be edited safely (" + err.Error() + "); write it more simply and try again",
			})
			data = s.file.Data
			for i, w := range m.outcomes {
				if w.Moved && w.File == s.file.Name {
					m.outcomes[i].Moved, m.outcomes[i].Why = false, []string{"the YAML of its file cannot be edited safely"}
				}
			}
		} else {
			m.leftovers(s, documents)
		}
		r.Files = append(r.Files, File{Name: s.file.Name, Data: data})
	}
	r.Workloads, r.Findings = m.outcomes, m.sorted()
	return r, nil
}

// migration is the state of one call.
type migration struct {
	options         Options
	streams         []*stream
	objects         []*object
	workloads       []*workload
	classes         []*class
	kustomizations  []*object
	secrets         []*secretObject
	secretRefs      []secretRef
	patches         []containerPatch
	findings        []Finding
	migrated        int
	outcomes        []Workload
	explained       map[*yaml.Node]bool // volumes and containers of the other tools that are migrated, reported, or not to be migrated
	migratedVolumes map[*yaml.Node]bool // by their csi
	named           bool                // the container of the options was found
	logins          map[string]bool     // Secrets that were written or requested, by namespace and name
}

// collect finds the objects to migrate, and those that they use.
func (m *migration) collect() {
	m.logins = map[string]bool{}
	m.explained = map[*yaml.Node]bool{}
	m.migratedVolumes = map[*yaml.Node]bool{}
	for _, s := range m.streams {
		m.objects = append(m.objects, s.objects()...)
		for _, document := range s.documents {
			m.collectPatches(s, document)
			if root := resolve(document.Content[0]); text1(get(root, "kind")) == "" {
				m.collectSecretRefs(s, nil, root)
				// The kind of a Kustomization may be left out, and its replacements may be a file of their own.
				if strings.HasPrefix(path.Base(s.file.Name), "kustomization.y") || hasReplacements(root) {
					m.kustomizations = append(m.kustomizations, &object{stream: s, node: root, document: document, kind: "Kustomization"})
				}
			}
		}
	}
	for _, o := range m.objects {
		m.collectSecretRefs(o.stream, o, o.node)
		switch {
		case o.isClass():
			m.classes = append(m.classes, newClass(o))
		case o.kind == "Secret":
			m.secrets = append(m.secrets, newSecretObject(o))
		case o.kind == "Kustomization" || o.kind == "Component":
			m.kustomizations = append(m.kustomizations, o)
		default:
			if o.kind == "Application" || o.kind == "ApplicationSet" { // of Argo CD: they may have patches
				m.kustomizations = append(m.kustomizations, o)
			}
			m.workloads = append(m.workloads, workloadsOf(o)...)
		}
	}
}

// migrate changes one workload, or reports why it does not.
func (m *migration) migrate(w *workload) {
	plan := &plan{workload: w}
	m.planAgents(plan)
	m.planClasses(plan)
	if !plan.blocked && len(plan.changes) > 0 {
		if err := w.stream.add(plan.changes); err != nil {
			plan.problem(w.node, "%v", err)
		}
	}
	if plan.blocked { // findings about migrated settings do not apply
		plan.findings = slices.DeleteFunc(plan.findings, func(f Finding) bool { return f.Level != NotMigrated })
	}
	m.findings = append(m.findings, plan.findings...)
	if plan.blocked || len(plan.changes) > 0 {
		m.outcomes = append(m.outcomes, plan.result())
	}
	if plan.blocked || len(plan.changes) == 0 {
		return
	}
	if version, gone := removedGroups[w.apiVersion]; gone {
		m.note(w.object, w.node.Line, "apiVersion %s is gone since Kubernetes %s; it stays as it is", w.apiVersion, version)
	}
	for _, use := range plan.uses {
		use.class.carried++
		m.migratedVolumes[use.csi] = true
	}
	for _, login := range plan.logins {
		m.logins[login] = true
	}
	m.migrated++
}

// result says what became of the workload.
func (p *plan) result() Workload {
	r := Workload{File: p.stream.file.Name, Line: p.node.Line, Object: p.String(), Moved: !p.blocked}
	if p.blocked {
		for _, f := range p.findings {
			r.Why = append(r.Why, f.Text)
		}
	}
	return r
}

func (m *migration) note(o *object, line int, format string, args ...any) {
	m.findings = append(m.findings, o.finding(line, Note, format, args...))
}

// sorted returns each finding once, in the order of the files and lines.
func (m *migration) sorted() []Finding {
	position := map[string]int{}
	for i, s := range m.streams {
		if _, known := position[s.file.Name]; !known {
			position[s.file.Name] = i
		}
	}
	slices.SortStableFunc(m.findings, func(a, b Finding) int {
		if a.File != b.File {
			return position[a.File] - position[b.File]
		}
		return a.Line - b.Line
	})
	return slices.Compact(m.findings)
}

// apply returns the new text, which is the old one without changes, and its documents.
func (s *stream) apply() ([]byte, []*yaml.Node, error) {
	if len(s.edits) == 0 {
		return s.file.Data, s.documents, nil
	}
	data, err := replace(s.text.data, s.edits)
	if err != nil {
		return nil, nil, err
	}
	data = []byte(show(string(data), s.placeholders))
	want := s.changed()
	got, err := parse(File{Name: s.file.Name, Data: data})
	switch {
	case err != nil:
		return nil, nil, err
	case !slices.EqualFunc(got.documents, want, sameTree):
		return nil, nil, fmt.Errorf("the result is not what was meant")
	case bytes.Equal(data, s.file.Data):
		return nil, nil, fmt.Errorf("nothing changed")
	}
	return data, want, nil
}
