package migrate_test

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/keyvault-csi/keyvault-csi/pkg/migrate"
)

// checkSync checks the same property with keyvault-csi-sync: after exit 0 each pod has what it had, and each Secret of a class is made from
// the files of a volume that has them.
func checkSync(data []byte) *violation {
	if !bytes.Contains(data, []byte("secretObjects")) {
		return nil
	}
	options := migrate.Options{SyncImage: "sync:v1"}
	first, err := migrate.Migrate([]migrate.File{{Name: "x", Data: data}}, options)
	if !exitsZero(first, err) {
		return nil
	}
	second, err := migrate.Migrate(first.Files, options)
	if !exitsZero(second, err) || !bytes.Equal(first.Files[0].Data, second.Files[0].Data) {
		return violated("a second migration with keyvault-csi-sync changes the result", "%v", second.Findings)
	}
	fill := filler(data)
	before, err := readCluster(fill(data))
	if err != nil {
		return nil // not a manifest
	}
	first.Files[0].Data = fill(first.Files[0].Data)
	after, err := readCluster(first.Files[0].Data)
	if err != nil {
		return violated("the result with keyvault-csi-sync is not YAML", "%v", err)
	}
	volumes := map[string]newVolumes{}
	for i, pod := range before.pods {
		for _, v := range pod.volumes {
			o, concerned := before.outcome(pod, v.fields)
			if !concerned || !o.synced {
				continue
			}
			o.synced = false // its volume moves as any other
			if wrong := compareVolume(o, v, after, after.pods[i], volumes, first); wrong != nil {
				return wrong
			}
			if wrong := after.checkSecrets(o, len(before.pods), first.Files[0].Data); wrong != nil {
				return wrong
			}
		}
	}
	return nil
}

// syncedSecret is an entry of the configuration of keyvault-csi-sync.
type syncedSecret struct {
	Name, Type string
	Adopt      bool
	Data       map[string]string
}

// checkSecrets checks that the Secrets of a class have an entry, and each key a file with the content that the old driver took.
func (c *cluster) checkSecrets(o outcome, pods int, data []byte) *violation {
	entries := map[string]syncedSecret{}
	for _, document := range c.documents {
		var config struct{ Secrets []syncedSecret }
		if at(document, "kind") == "ConfigMap" && yaml.Unmarshal([]byte(textAt(document, "data", "secrets.yaml")), &config) == nil {
			for _, s := range config.Secrets {
				entries[s.Name] = s
			}
		}
	}
	var suffix string
	if _, after, ok := bytes.Cut([]byte(o.asked.vault), []byte(".")); ok {
		suffix = string(after)
	}
	all, err := readNewVolumes(data, suffix)
	if err != nil {
		return violated("render fails", "%v", err)
	}
	kind := func(a asked) string { // without the client id, which a Secret may hold
		identity, _, _ := strings.Cut(a.identity, clientOf)
		return identity
	}
	files := map[string]asked{}
	for _, pod := range c.pods[pods:] {
		for _, v := range pod.volumes {
			for _, found := range all.at(v) {
				if asks := driverAsks(found.Request, at(v.fields, "csi")); asks.vault == o.asked.vault && kind(asks) == kind(o.asked) {
					for path := range asks.files {
						files[path] = asks
					}
				}
			}
		}
	}
	for _, object := range o.secrets {
		entry, there := entries[textAt(object, "secretName")]
		pairs, _ := at(object, "data").([]any)
		if !there || !entry.Adopt || len(entry.Data) != len(pairs) {
			return violated("a synced Secret has no entry", "%v: %+v", object, entries)
		}
		for _, pair := range pairs {
			path := entry.Data[textAt(pair, "key")]
			was, is := o.asked.files[textAt(pair, "objectName")], files[path].files[path]
			name := func(what string) string { return what + " of " + textAt(pair, "objectName") }
			parts := map[string]string{"tls.crt": name("chain"), "tls.key": name("private key")}
			if len(is.contents) == 0 || !slices.Contains(was.contents, is.contents[0]) && is.contents[0] != parts[textAt(pair, "key")] {
				return violated("a key of a synced Secret has another file", "%v is %q; the files are %v, the old ones %v",
					pair, path, slices.Sorted(maps.Keys(files)), o.asked)
			}
		}
	}
	return nil
}
