package migrate_test

import (
	"bytes"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/keyvault-csi/keyvault-csi/pkg/migrate"
)

// violation is what is wrong with one migration.
type violation struct {
	kind   string // short, to group them
	detail string
}

func violated(kind, format string, args ...any) *violation {
	return &violation{kind, fmt.Sprintf(format, args...)}
}

// exitsZero reports whether kvcsi migrate ends with exit code 0.
func exitsZero(result migrate.Result, err error) bool {
	for _, finding := range result.Findings {
		if finding.Level > migrate.Note {
			return false
		}
	}
	return err == nil
}

// checkMigration checks the property for one manifest: after exit 0 each pod has what it had. Nil if it holds.
func checkMigration(data []byte) *violation {
	if wrong := checkSync(data); wrong != nil {
		return wrong
	}
	first, err := migrate.Migrate([]migrate.File{{Name: "x", Data: data}}, migrate.Options{})
	if err != nil {
		return nil
	}
	ok := exitsZero(first, err)
	second, err := migrate.Migrate(first.Files, migrate.Options{})
	switch {
	case err != nil:
		return violated("the result is not YAML", "%v", err)
	case !bytes.Equal(first.Files[0].Data, second.Files[0].Data):
		return violated("a second migration changes the result", "%s\nsecond:\n%s", first.Files[0].Data, second.Files[0].Data)
	case ok && !exitsZero(second, err):
		return violated("a second migration does not exit 0", "%v", second.Findings)
	case !ok:
		return nil
	}
	fill := filler(data)
	before, err := readCluster(fill(data))
	if err != nil {
		return nil // not a manifest
	}
	first.Files[0].Data = fill(first.Files[0].Data)
	after, err := readCluster(first.Files[0].Data)
	if err != nil {
		return violated("the result is not YAML", "%v", err)
	}
	return compareClusters(before, after, first)
}

func compareClusters(before, after *cluster, result migrate.Result) *violation {
	if len(before.pods) != len(after.pods) {
		return violated("a pod is lost", "%d pods, %d after", len(before.pods), len(after.pods))
	}
	volumes := map[string]newVolumes{}
	stays := 0
	agents, synced := false, false
	for i, pod := range before.pods {
		agents = agents || hasAgent(pod)
		if hasAgent(after.pods[i]) {
			return violated("an agent is left", "%v", after.pods[i].spec)
		}
		for _, v := range pod.volumes {
			o, concerned := before.outcome(pod, v.fields)
			if !concerned || o.other || o.synced {
				stays += countStore(v.fields)
			}
			if !concerned {
				continue
			}
			synced = synced || o.synced
			if wrong := compareVolume(o, v, after, after.pods[i], volumes, result); wrong != nil {
				return wrong
			}
		}
	}
	if found := countStore(after.documents); found > stays {
		return violated("a volume of the store is left", "%d volumes, and %d may stay", found, stays)
	}
	if !agents && !synced && !sameRest(before, after) {
		return violated("something else changed", "%v\nafter:\n%v", before.documents, after.documents)
	}
	return checkNewVolumes(result.Files[0].Data, before, after)
}

var particular = regexp.MustCompile(`"[^"]*"|[0-9]+`)

// kindOf returns an error without what is particular to one file.
func kindOf(err error) string {
	return particular.ReplaceAllString(err.Error(), "…")
}

// compareVolume compares what the provider did for one volume with what this driver will do.
func compareVolume(o outcome, v modelVolume, after *cluster, pod modelPod, volumes map[string]newVolumes, result migrate.Result) *violation {
	name := textAt(v.fields, "name")
	if o.refused != nil {
		return violated("the provider refuses: "+kindOf(o.refused), "volume %s: %v", name, o.refused)
	}
	if len(o.asked.unread) > 0 { // it may be a misspelt one that the user relies on
		return violated("a name without effect", "volume %s: %v", name, o.asked.unread)
	}
	var now []modelVolume
	for _, other := range pod.volumes {
		if textAt(other.fields, "name") == name || o.synced && at(other.fields, "csi", "driver") == driverCSI {
			now = append(now, other)
		}
	}
	if o.other {
		if len(now) != 1 || !reflect.DeepEqual(now[0].fields, v.fields) {
			return violated("a volume of another provider changed", "volume %s", name)
		}
		return nil
	}
	_, suffix, _ := strings.Cut(o.asked.vault, ".")
	if volumes[suffix] == nil {
		all, err := readNewVolumes(result.Files[0].Data, suffix)
		if err != nil {
			return violated("render fails", "%v", err)
		}
		volumes[suffix] = all
	}
	if o.synced { // the class stays for the Secret, and its volume in this pod or in another that reads the Secret
		if len(after.classes) == 0 || countStore(after.documents) == 0 {
			return violated("a synced Secret is lost", "volume %s", name)
		}
	}
	const none = "no volume of this driver"
	got := none
	for _, candidate := range now {
		csi := at(candidate.fields, "csi")
		if at(csi, "driver") != driverCSI {
			continue
		}
		found := volumes[suffix].at(candidate)
		if len(found) == 0 {
			return violated("render does not find a new volume", "volume %s", name)
		}
		login, err := after.login(pod, csi)
		for _, read := range found {
			if len(read.Problems) > 0 {
				return violated("the driver refuses a new volume", "volume %s: %v", name, read.Problems)
			}
			asks := driverAsks(read.Request, csi)
			if err == nil && sameVolume(o.asked, asks, login != nil && login.keys != nil) {
				return nil
			}
			got = asks.String()
		}
	}
	if o.synced && got == none {
		return nil
	}
	return violated("another volume", "volume %s: the provider:\n  %v\nthis driver:\n  %s", name, o.asked, got)
}

// checkNewVolumes checks that kvcsi render finds every volume of this driver, and accepts those that migrate has written.
func checkNewVolumes(data []byte, before, after *cluster) *violation {
	all, err := readNewVolumes(data, "")
	if err != nil {
		return violated("render fails", "%v", err)
	}
	for i, pod := range after.pods {
		for _, v := range pod.volumes {
			if at(v.fields, "csi", "driver") != driverCSI || !pod.uniqueName(v.fields) {
				continue
			}
			found := all.at(v)
			if len(found) == 0 {
				return violated("render does not find a new volume", "%v", v.fields)
			}
			for _, problem := range found[0].Problems {
				if !strings.Contains(problem.Text, "is not a vault of this cloud") && !before.pods[i].has(v) {
					return violated("the driver refuses a new volume", "%v: %v", v.fields, problem.Text)
				}
			}
		}
	}
	return nil
}

func (p modelPod) has(v modelVolume) bool {
	return slices.ContainsFunc(p.volumes, func(other modelVolume) bool { return reflect.DeepEqual(other.fields, v.fields) })
}

// countStore counts the volumes of the store, wherever they are.
func countStore(value any) (count int) {
	switch v := value.(type) {
	case []any:
		for _, item := range v {
			count += countStore(item)
		}
	case map[string]any:
		if v["driver"] == storeCSI {
			count++
		}
		for _, item := range v {
			count += countStore(item)
		}
	}
	return count
}

// hasAgent reports whether a pod has a container that is the agent by its image or by its variables.
func hasAgent(pod modelPod) bool {
	for _, field := range []string{"initContainers", "containers"} {
		list, _ := pod.spec[field].([]any)
		for _, container := range list {
			if strings.Contains(textAt(container, "image"), "keyvault-agent") {
				return true
			}
			variables := map[string]bool{}
			env, _ := at(container, "env").([]any)
			for _, variable := range env {
				variables[textAt(variable, "name")] = true
			}
			if variables["VAULT_BASE_URL"] && variables["SECRETS_FOLDER"] {
				return true
			}
		}
	}
	return false
}
