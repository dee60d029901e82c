package migrate_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// outcome is what happens with one volume of the Secrets Store CSI Driver.
type outcome struct {
	asked   asked
	refused error // by the API server, the store's driver or the provider, or because this driver is not on the pod's nodes
	other   bool  // it is of another provider than Azure's
	synced  bool  // the class also makes Secrets
	secrets []any // secretObjects
}

// outcome returns what the other driver does with a volume; false if the volume is not of it, or if the API server refuses the pod
// for another reason.
func (c *cluster) outcome(pod modelPod, volume any) (outcome, bool) {
	if !mentionsStore(volume) || !pod.uniqueName(volume) {
		return outcome{}, false
	}
	o, err := c.publish(pod, volume)
	if err != nil {
		o = outcome{refused: err}
	}
	return o, true
}

func (c *cluster) publish(pod modelPod, volume any) (o outcome, err error) {
	csi := at(volume, "csi")
	attributes, err := texts(at(csi, "volumeAttributes"))
	if err != nil {
		return o, err
	}
	class, err := find(c.classes, pod.object, attributes[classAttribute])
	if err != nil {
		return o, fmt.Errorf("class: %w", err)
	}
	spec := at(class, "spec")
	switch provider := textAt(spec, "provider"); {
	case provider == "azure":
	case provider == "", strings.EqualFold(strings.TrimSpace(provider), "azure"):
		return o, fmt.Errorf("the provider of the class is %q", provider)
	default:
		return outcome{other: true}, nil
	}
	if err := checkVolume(pod, csi); err != nil {
		return o, err
	}
	parameters, err := texts(at(spec, "parameters"))
	if err != nil {
		return o, fmt.Errorf("parameters: %w", err)
	}
	maps.Copy(parameters, attributes)
	switch synced := at(spec, "secretObjects").(type) {
	case nil:
	case []any:
		o.synced, o.secrets = len(synced) > 0, synced
	default:
		return o, errors.New("secretObjects is not a list")
	}
	login, err := c.login(pod, csi)
	if err != nil {
		return o, err
	}
	o.asked, err = provide(parameters, login)
	o.asked.unread = append(o.asked.unread, others(spec, "provider", "parameters", "secretObjects")...)
	return o, err
}

// others are the names in a mapping that are not among the known ones.
func others(value any, known ...string) (names []string) {
	pairs, _ := value.(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(pairs)) {
		if !slices.Contains(known, name) {
			names = append(names, name)
		}
	}
	return names
}

// checkVolume checks a volume as the API server and the store's driver do. They ignore fields that they do not know.
func checkVolume(pod modelPod, csi any) error {
	ref := at(csi, "nodePublishSecretRef")
	_, isMapping := ref.(map[string]any)
	selector := at(pod.spec, "nodeSelector")
	switch {
	case at(csi, "driver") != storeCSI:
		return errors.New("the driver is not the store's")
	case at(csi, "readOnly") != any(true):
		return errors.New("readOnly is not true")
	case at(csi, "fsType") != nil && textAt(csi, "fsType") == "":
		return errors.New("fsType is not a text")
	case ref != nil && !isMapping:
		return errors.New("nodePublishSecretRef is not a mapping")
	case at(pod.spec, "os", "name") == "windows", at(selector, "kubernetes.io/os") == "windows", at(selector, "beta.kubernetes.io/os") == "windows":
		return errors.New("the pod is for Windows")
	}
	return nil
}

func (p modelPod) uniqueName(volume any) bool {
	name, count := textAt(volume, "name"), 0
	for _, v := range p.volumes {
		if textAt(v.fields, "name") == name {
			count++
		}
	}
	return name != "" && count == 1
}
