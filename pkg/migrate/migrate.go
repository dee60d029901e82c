package migrate

import (
	"bytes"
	"fmt"
	"slices"
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
	Files    []File // in the order of the input; those with nothing to migrate are identical
	Migrated int    // the number of objects with a pod that were changed
	Findings []Finding
}

// Migrate replaces the agent, and volumes of the Azure provider, by this driver's volume, in pods and in objects with a pod
// template. A SecretProviderClass must be among the files. It is removed if all of it is migrated and one of the pods
// used it.
//
// It returns an error if a file is not YAML; then nothing is migrated.
func Migrate(files []File, o Options) (Result, error) {
	m := &migration{options: o}
	for _, file := range files {
		s, err := parse(file)
		if err != nil {
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
	m.retireClasses()
	r := Result{Migrated: m.migrated}
	for _, s := range m.streams {
		data, err := s.apply()
		if err != nil {
			m.findings = slices.DeleteFunc(m.findings, func(f Finding) bool { return f.File == s.file.Name && f.Level != NotMigrated })
			m.findings = append(m.findings, Finding{
				File: s.file.Name, Line: 1, Object: "the file", Level: NotMigrated,
				Text: "its YAML cannot be edited safely (" + err.Error() + "); write it more simply and try again",
			})
			data = s.file.Data
		}
		r.Files = append(r.Files, File{Name: s.file.Name, Data: data})
	}
	r.Findings = m.sorted()
	return r, nil
}

// migration is the state of one call.
type migration struct {
	options   Options
	streams   []*stream
	workloads []*workload
	classes   []*class
	secrets   []*secretObject
	findings  []Finding
	migrated  int
	named     bool            // the container of the options was found
	logins    map[string]bool // Secrets that were written or requested, by namespace and name
}

// collect finds the objects to migrate, and those that they use.
func (m *migration) collect() {
	m.logins = map[string]bool{}
	for _, s := range m.streams {
		for _, o := range s.objects() {
			switch {
			case o.isClass():
				m.classes = append(m.classes, newClass(o))
			case o.kind == "Secret":
				m.secrets = append(m.secrets, newSecretObject(o))
			default:
				if w := newWorkload(o); w != nil {
					m.workloads = append(m.workloads, w)
				} else if at := findAgent(o.node); at != nil {
					m.find(o, at.Line, NotMigrated, "has a pod with acs-keyvault-agent, but kvcsi does not know this kind; migrate the pod by hand")
				}
			}
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
	if plan.blocked || len(plan.changes) == 0 {
		return
	}
	if version, gone := removedGroups[w.apiVersion]; gone {
		m.find(w.object, w.node.Line, Note, "apiVersion %s is gone since Kubernetes %s; it stays as it is", w.apiVersion, version)
	}
	for _, use := range plan.uses {
		use.class.carried++
	}
	for _, login := range plan.logins {
		m.logins[login] = true
	}
	m.migrated++
}

func (m *migration) find(o *object, line int, level Level, format string, args ...any) {
	m.findings = append(m.findings, o.finding(line, level, format, args...))
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

// apply returns the new text, which is the old one without changes.
func (s *stream) apply() ([]byte, error) {
	if len(s.edits) == 0 {
		return s.file.Data, nil
	}
	data, err := replace(s.file.Data, s.edits)
	if err != nil {
		return nil, err
	}
	want := s.changed()
	got, err := parse(File{Name: s.file.Name, Data: data})
	switch {
	case err != nil:
		return nil, err
	case !slices.EqualFunc(got.documents, want, sameTree):
		return nil, fmt.Errorf("the result is not what was meant")
	case bytes.Equal(data, s.file.Data):
		return nil, fmt.Errorf("nothing changed")
	}
	return data, nil
}
