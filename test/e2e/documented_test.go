package e2e

import (
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// documented returns the manifest with this name in a document.
func documented(t *testing.T, document, name string) object {
	t.Helper()
	text, err := os.ReadFile("../../docs/" + document)
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(text), "\n```yaml "+name+"\n")
	block, _, found := strings.Cut(block, "\n```\n")
	var manifest object
	if err := yaml.Unmarshal([]byte(block), &manifest); err != nil || !found {
		t.Fatalf("docs/%s has no manifest %s: %v", document, name, err)
	}
	return manifest
}

// named returns the element of a list of a manifest with this name.
func named(t *testing.T, list any, name string) object {
	t.Helper()
	for _, element := range list.([]any) {
		if element.(object)["name"] == name {
			return element.(object)
		}
	}
	t.Fatalf("there is no %s in %v", name, list)
	return nil
}

// runDocumented runs a pod of docs/environment.md with the objects of the document, of which only the vault and the identity are the test's.
// It has the images and the security settings of the tests, and a variable of the manifest beside those of the file. change may change its
// spec.
func (e *env) runDocumented(t *testing.T, name, manifest string, change func(spec object)) (vault, *pod) {
	t.Helper()
	v, p, pod := e.newVault(t), e.newPod(name), documented(t, "environment.md", manifest)
	v.setDatabase(t, "first")
	spec := pod["spec"].(object)
	change(spec)
	app := named(t, spec["containers"], "shop")
	variables, _ := app["env"].([]any)
	app["env"] = append(variables, object{"name": "OTHER", "value": "of the manifest"})
	p.adapt(t, v, pod)
	p.create(t, pod)
	p.awaitRunning(t)
	return v, p
}

// adapt gives a pod of a document the vault and identity, the image and the security settings of the tests.
func (p *pod) adapt(t *testing.T, v vault, pod object) {
	t.Helper()
	pod["metadata"] = object{"name": p.name}
	spec, ours := pod["spec"].(object), p.manifest(volume{})["spec"].(object)
	for key, value := range ours {
		if key != "containers" && key != "initContainers" && key != "volumes" {
			spec[key] = value
		}
	}
	attributes := named(t, spec["volumes"], "secrets")["csi"].(object)["volumeAttributes"].(object)
	attributes["vault"], attributes["clientID"] = v.name, v.clientID
	app := named(t, spec["containers"], "shop")
	app["image"], app["args"] = p.testImage, []string{"hold", "-volume", mountPath}
	app["securityContext"] = ours["containers"].([]object)[0]["securityContext"]
}

// adaptInit gives an init container of the document an image and the security settings of the tests.
func (e *env) adaptInit(t *testing.T, spec object, name, image string) object {
	t.Helper()
	init := named(t, spec["initContainers"], name)
	init["image"] = image
	init["securityContext"] = e.newPod("").manifest(volume{})["spec"].(object)["containers"].([]object)[0]["securityContext"]
	return init
}
