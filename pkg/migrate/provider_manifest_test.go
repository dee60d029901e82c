package migrate_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	storeCSI       = "secrets-store.csi.k8s.io"
	classAttribute = "secretProviderClass"
)

// number is a scalar that is a number. Kubernetes refuses it where a text must stand.
type number string

// plain returns a tree as Go values, with the booleans of YAML 1.1, which kubectl reads: string, bool, number, nil, []any and
// map[string]any.
func plain(node *yaml.Node) any {
	switch node.Kind {
	case yaml.DocumentNode:
		return plain(node.Content[0])
	case yaml.AliasNode:
		return plain(node.Alias)
	case yaml.SequenceNode:
		list := []any{}
		for _, item := range node.Content {
			list = append(list, plain(item))
		}
		return list
	case yaml.MappingNode:
		pairs := map[string]any{}
		for i := 0; i+1 < len(node.Content); i += 2 {
			pairs[node.Content[i].Value] = plain(node.Content[i+1])
		}
		if merged, ok := pairs["<<"].(map[string]any); ok {
			delete(pairs, "<<")
			maps.Copy(merged, pairs)
			return merged
		}
		return pairs
	}
	if node.Style == 0 && node.Tag != "!!binary" {
		switch strings.ToLower(node.Value) {
		case "y", "yes", "on":
			return true
		case "n", "no", "off":
			return false
		}
	}
	switch node.ShortTag() {
	case "!!null":
		return nil
	case "!!bool":
		return strings.EqualFold(node.Value, "true")
	case "!!int", "!!float":
		return number(node.Value)
	}
	return node.Value
}

func at(value any, names ...string) any {
	for _, name := range names {
		pairs, _ := value.(map[string]any)
		value = pairs[name]
	}
	return value
}

func textAt(value any, names ...string) string { s, _ := at(value, names...).(string); return s }

// cluster is what the model reads in the manifests.
type cluster struct {
	documents []any
	classes   []map[string]any
	secrets   []map[string]any
	pods      []modelPod
}

// modelPod is a pod's spec with containers and volumes, at whatever depth.
type modelPod struct {
	object  map[string]any // with apiVersion and kind
	spec    map[string]any
	volumes []modelVolume
}

type modelVolume struct {
	line   int
	fields any
}

func readCluster(data []byte) (*cluster, error) {
	c := &cluster{}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return c, nil
		}
		if err != nil {
			return nil, err
		}
		var check any // finds anchors that contain themselves, and keys that are not hashable
		if err := document.Decode(&check); err != nil {
			return nil, err
		}
		c.documents = append(c.documents, plain(&document))
		c.walk(document.Content[0], nil)
	}
}

func (c *cluster) walk(node *yaml.Node, object map[string]any) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	var fields map[string]*yaml.Node
	if node.Kind == yaml.MappingNode {
		fields = map[string]*yaml.Node{}
		for i := 0; i+1 < len(node.Content); i += 2 {
			fields[node.Content[i].Value] = node.Content[i+1]
		}
	}
	if fields["kind"] != nil && fields["apiVersion"] != nil {
		object = plain(node).(map[string]any)
		switch {
		case isStoreClass(object):
			c.classes = append(c.classes, object)
			return
		case object["kind"] == "Secret":
			c.secrets = append(c.secrets, object)
			return
		}
	}
	containers, volumes := fields["containers"], fields["volumes"]
	if containers != nil && volumes != nil && volumes.Kind == yaml.AliasNode {
		volumes = volumes.Alias
	}
	if containers != nil && volumes != nil && volumes.Kind == yaml.SequenceNode {
		pod := modelPod{object: object, spec: plain(node).(map[string]any)}
		for _, item := range volumes.Content {
			pod.volumes = append(pod.volumes, modelVolume{item.Line, plain(item)})
		}
		c.pods = append(c.pods, pod)
	}
	for _, child := range node.Content {
		c.walk(child, object)
	}
}

func isStoreClass(object any) bool {
	return at(object, "kind") == "SecretProviderClass" && slices.Contains([]string{"v1", "v1alpha1"},
		strings.TrimPrefix(textAt(object, "apiVersion"), "secrets-store.csi.x-k8s.io/"))
}

// find returns the object of a name that a pod sees. An object without a namespace may be applied to any.
func find(objects []map[string]any, pod map[string]any, name string) (map[string]any, error) {
	namespace := textAt(pod, "metadata", "namespace")
	var same, maybe []map[string]any
	for _, object := range objects {
		if at(object, "metadata", "name") != name {
			continue
		}
		switch other := textAt(object, "metadata", "namespace"); {
		case other == namespace:
			same = append(same, object)
		case other == "" || namespace == "":
			maybe = append(maybe, object)
		}
	}
	if len(same) == 0 {
		same = maybe
	}
	if len(same) != 1 {
		return nil, fmt.Errorf("%d objects of the name %q", len(same), name)
	}
	return same[0], nil
}

// texts reads a map of texts. The API server refuses numbers and booleans there, but templates and people forget the quotes, and
// only one thing can be meant.
func texts(value any) (map[string]string, error) {
	all := map[string]string{}
	pairs, ok := value.(map[string]any)
	if !ok && value != nil {
		return nil, errors.New("not a map of texts")
	}
	for name, value := range pairs {
		switch v := value.(type) {
		case nil:
		case string, number, bool:
			all[name] = fmt.Sprint(v)
		default:
			return nil, fmt.Errorf("%q is not a text", name)
		}
	}
	return all, nil
}

// mentionsStore reports whether a volume is one of the store, or was meant to be one.
func mentionsStore(value any) bool {
	switch v := value.(type) {
	case string:
		return v == storeCSI
	case []any:
		return slices.ContainsFunc(v, mentionsStore)
	case map[string]any:
		for name, value := range v {
			if name == classAttribute || mentionsStore(value) {
				return true
			}
		}
	}
	return false
}

// login returns the Secret of a volume.
func (c *cluster) login(pod modelPod, csi any) (*loginSecret, error) {
	if at(csi, "nodePublishSecretRef") == nil {
		return nil, nil //nolint:nilnil // a volume without one
	}
	name := textAt(csi, "nodePublishSecretRef", "name")
	if name == "" {
		return nil, errors.New("nodePublishSecretRef has no name")
	}
	object, err := find(c.secrets, pod.object, name)
	if err != nil {
		return &loginSecret{name: name}, nil //nolint:nilerr // it is in the cluster
	}
	keys := map[string]string{}
	data, err := texts(object["data"])
	if err != nil {
		return nil, err
	}
	for key, value := range data {
		decoded, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(value), ""))
		if err != nil {
			return nil, err
		}
		keys[strings.ToLower(key)] = string(decoded)
	}
	more, err := texts(object["stringData"])
	for key, value := range more {
		keys[strings.ToLower(key)] = value
	}
	return &loginSecret{name, keys}, err
}
