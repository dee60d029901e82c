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

// Volume is a volume of this driver in a manifest, judged by the driver's own parser.
type Volume struct {
	File   string
	Line   int    // of the volume
	Object string // "Deployment shop/web"
	Name   string // of the volume

	// Request is what the volume asks for, if there are no Problems. Its pod, token and, where the manifests do not
	// hold the Secret, its client secret are placeholders.
	Request volume.Request

	Problems []VolumeProblem
}

// VolumeProblem is one thing that is wrong with a volume, and where.
type VolumeProblem struct {
	Line int
	Text string // with the attribute in front: "objects[0].mode: …"
}

// Volumes finds every volume of this driver in the files and lets [volume.Parse] judge it, with the cloud and the
// default identity of the defaults. The error is about a file that is not YAML.
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
					Problems: []VolumeProblem{{csi.Line, "there are no PersistentVolumes of this driver; write the volume into the pod"}},
				})
			}
		}
	}
	for _, w := range m.workloads {
		for _, v := range w.volumes() {
			if csi := get(v.node, "csi"); text1(get(csi, "driver")) == DriverName {
				all = append(all, m.judge(w, v, csi, defaults))
			}
		}
	}
	return all, nil
}

// judge reads one volume as the API server and then the driver would.
func (m *migration) judge(w *workload, v podVolume, csi *yaml.Node, defaults volume.Defaults) Volume {
	judged := Volume{File: w.stream.file.Name, Line: v.node.Line, Object: w.String(), Name: v.name}
	wrong := func(line int, text string) { judged.Problems = append(judged.Problems, VolumeProblem{line, text}) }
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
	places := map[string]*yaml.Node{}
	if node := get(csi, "volumeAttributes"); node != nil && node.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(node.Content); i += 2 {
			name, value := text1(node.Content[i]), resolve(node.Content[i+1])
			places[name] = value
			if value.Kind != yaml.ScalarNode || value.ShortTag() != "!!str" {
				wrong(value.Line, printable(name)+": must be a string, put it in quotes")
			}
			attributes[name] = text1(value)
		}
	}
	secrets := map[string]string{}
	if ref := text1(get(csi, "nodePublishSecretRef", "name")); ref != "" {
		secrets = m.secretData(w, ref, attributes)
	}
	who := pod{name: w.name, namespace: w.namespace, serviceAccount: w.serviceAccount()}
	request, err := volume.Parse(who.complete(attributes), secrets, defaults)
	judged.Request = request
	if problems, invalid := errors.AsType[volume.Problems](err); invalid {
		for _, problem := range problems {
			wrong(placeOf(problem, places, v.node.Line), problem.String())
		}
	}
	slices.SortStableFunc(judged.Problems, func(a, b VolumeProblem) int { return a.Line - b.Line })
	return judged
}

// placeOf is the line of a problem: that of the attribute, and within a block of text the line there.
func placeOf(problem volume.Problem, places map[string]*yaml.Node, fallback int) int {
	node := places[problem.Attribute()]
	if node == nil {
		node = places[problem.Field]
	}
	switch {
	case node == nil:
		return fallback
	case problem.Line > 0 && node.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return node.Line + problem.Line // the text begins on the line after the "|"
	}
	return node.Line
}

// secretData is the content of a Secret among the manifests, else a placeholder.
func (m *migration) secretData(w *workload, name string, attributes map[string]string) map[string]string {
	source := m.secret(&plan{workload: w}, name)
	if source == nil {
		return placeholderSecret(attributes)
	}
	data := maps.Clone(source.plain)
	for key, value := range source.data {
		if _, given := data[key]; given {
			continue // stringData wins, as with the API server
		}
		decoded, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(value), ""))
		if err != nil {
			return placeholderSecret(attributes)
		}
		data[key] = string(decoded)
	}
	return data
}
