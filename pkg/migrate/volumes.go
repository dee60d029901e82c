package migrate

import (
	"encoding/base64"
	"errors"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Volume is a volume of this driver in a manifest, validated by the driver's own parser.
type Volume struct {
	File   string
	Line   int    // of the volume
	Object string // "Deployment shop/web"
	Name   string // of the volume

	// Request is the request of the volume if there are no Problems. Its pod and token are placeholders, and its client
	// secret if the Secret is not in the manifests.
	Request volume.Request

	// Placeholders turns the values that stand for placeholders, such as ${VAULT}, back into them. Without placeholders it changes
	// nothing.
	Placeholders *strings.Replacer
	Filled       []string // the placeholders

	Problems []VolumeProblem
}

// VolumeProblem is one error in a volume.
type VolumeProblem struct {
	Line int
	Text string // begins with the attribute: "objects[0].mode: …"
}

// Volumes finds every volume of this driver in the files and validates it by [volume.Parse], with the cloud and the default
// identity of the defaults. It returns an error if a file is not YAML.
func Volumes(files []File, defaults volume.Defaults) ([]Volume, error) {
	var streams []*stream
	m := &migration{}
	for _, file := range files {
		s, err := parse(file)
		if err != nil {
			return nil, err
		}
		streams = append(streams, s)
	}
	m.streams = streams
	m.collect()
	var all []Volume
	for _, s := range streams {
		for _, o := range s.objects() {
			if csi := get(o.node, "spec", "csi"); o.kind == "PersistentVolume" && text1(get(csi, "driver")) == DriverName {
				all = append(all, Volume{
					File: s.file.Name, Line: csi.Line, Object: o.String(), Name: o.name,
					Placeholders: strings.NewReplacer(), Problems: []VolumeProblem{{csi.Line, "there are no PersistentVolumes of this driver; write the volume into the pod"}},
				})
			}
		}
	}
	for _, w := range m.workloads {
		for _, v := range w.volumes() {
			if csi := get(v.node, "csi"); text1(get(csi, "driver")) == DriverName {
				all = append(all, m.validate(w, v, csi, defaults))
			}
		}
	}
	return all, nil
}

// validate reads one volume as the API server and then the driver do.
func (m *migration) validate(w *workload, v podVolume, csi *yaml.Node, defaults volume.Defaults) Volume {
	result := Volume{File: w.stream.file.Name, Line: v.node.Line, Object: w.String(), Name: v.name}
	wrong := func(line int, text string) { result.Problems = append(result.Problems, VolumeProblem{line, text}) }
	if twice := doubled(csi); twice != nil {
		wrong(twice.Line, twice.Value+": is there twice")
	}
	if readOnly := get(csi, "readOnly"); !isTrue(readOnly) {
		line := csi.Line
		if readOnly != nil {
			line = readOnly.Line
		}
		wrong(line, "readOnly: is not true, and the driver refuses such volumes; set readOnly: true under csi")
	}
	attributes := map[string]string{}
	nodes := map[string]*yaml.Node{}
	eachPair(get(csi, "volumeAttributes"), 0, func(key, value *yaml.Node) {
		name := text1(key)
		nodes[name] = value
		if value.Kind != yaml.ScalarNode || value.ShortTag() != "!!str" {
			wrong(value.Line, printable(name)+": must be a string, put it in quotes")
		}
		attributes[name] = text1(value)
	})
	secrets := map[string]string{}
	if ref := text1(get(csi, "nodePublishSecretRef", "name")); ref != "" {
		secrets = m.secretData(w, ref, attributes)
	}
	who := pod{name: w.name, namespace: w.namespace, serviceAccount: w.serviceAccount()}
	var fill standIns
	for name, value := range attributes {
		attributes[name] = fill.fill(name, value)
	}
	request, err := volume.Parse(who.complete(attributes), secrets, defaults)
	result.Request, result.Placeholders, result.Filled = request, fill.replacer(), fill.texts
	if problems, invalid := errors.AsType[volume.Problems](err); invalid {
		for _, problem := range problems {
			wrong(lineOf(problem, nodes, v.node.Line), result.Placeholders.Replace(problem.String()))
		}
	}
	slices.SortStableFunc(result.Problems, func(a, b VolumeProblem) int { return a.Line - b.Line })
	return result
}

// lineOf returns the line of a problem: the line of the attribute, or the line in its block of text.
func lineOf(problem volume.Problem, nodes map[string]*yaml.Node, fallback int) int {
	node := nodes[problem.Attribute()]
	if node == nil {
		node = nodes[problem.Field]
	}
	switch {
	case node == nil:
		return fallback
	case problem.Line > 0 && node.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return node.Line + problem.Line // the text begins on the line after the "|"
	}
	return node.Line
}

// secretData returns the content of a Secret among the manifests, or a placeholder.
func (m *migration) secretData(w *workload, name string, attributes map[string]string) map[string]string {
	source := m.secret(&plan{workload: w}, name)
	if source == nil {
		return placeholderSecret(attributes)
	}
	data := maps.Clone(source.plain)
	for key, value := range source.data {
		if _, given := data[key]; given {
			continue // stringData wins, as in the API server
		}
		decoded, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(value), ""))
		if err != nil {
			return placeholderSecret(attributes)
		}
		data[key] = string(decoded)
	}
	return data
}
