package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

const (
	manifests = "../../pkg/migrate/testdata/" // of pods with the init container

	assignedID      = "11111111-2222-3333-4444-555555555555" // a managed identity of the node, which msi.yaml names
	metadataAddress = "169.254.169.254"
)

// migration is a manifest with the init container, and recorded runs with the expected files.
type migration struct {
	manifest string
	runs     []string
	// Replaced parts of the manifest: the name of the vault, and the runs' variables, by their text after "SECRETS_KEYS" and the like.
	changes func(environment func(run, variable string) string) []string
	at      string // path of the volume in the container
	folder  string // folder of the volume; "": the whole volume
	managed bool   // needs the metadata service
	login   func(t *testing.T, e *env, tenant, clientID string)
}

// testMigrated runs `kvcsi migrate` with the three kinds of manifest of the init container's documentation. The migrated pods must have the
// recorded bytes at the same paths.
func testMigrated(t *testing.T, e *env) {
	hasMetadata := e.startMetadata(t)
	for _, m := range []migration{
		{
			manifest: "service-principal-file.yaml", runs: []string{"several", "certs-keys"}, at: "/secrets",
			changes: func(environment func(run, variable string) string) []string {
				return []string{
					"db-password:9d90276b377b4d9ea10763c153a2f015;web-tls;", environment("several", "SECRETS_KEYS"),
					"value: web-tls\n", "value: " + environment("certs-keys", "CERTS_KEYS") + "\n",
				}
			},
			login: func(t *testing.T, e *env, tenant, clientID string) {
				t.Helper()
				e.admin(t, "/identities", object{"tenant": tenant, "clientID": clientID, "secrets": []object{{"value": "agent~client~secret"}}})
				e.replaceOnNode(t, clusterFile, read(t, path.Join(recordings, "several", "azure.json")))
			},
		},
		{
			manifest: "msi.yaml", runs: []string{"list-all"}, at: "/secrets", managed: true,
			login: func(t *testing.T, e *env, tenant, clientID string) {
				t.Helper()
				e.admin(t, "/identities", object{"tenant": tenant, "clientID": clientID, "managed": true})
			},
		},
		{
			manifest: "file-names.yaml", runs: []string{"save-pfx"}, at: "/etc/nginx/tls", folder: "certs_keys", managed: true,
			changes: func(environment func(run, variable string) string) []string {
				return []string{
					"|\n        web-tls::web.crt:web.key;\n        db-password ;\n        api-key:9d90276b377b4d9ea10763c153a2f015\n",
					environment("save-pfx", "SECRETS_KEYS") + "\n",
					`"yes"`, `"true"`, // the run had all certificates
				}
			},
			login: func(t *testing.T, e *env, tenant, clientID string) {
				t.Helper()
				e.admin(t, "/identities", object{"tenant": tenant, "clientID": clientID, "managed": true, "systemAssigned": true})
			},
		},
	} {
		t.Run(m.manifest, func(t *testing.T) {
			if m.managed && !hasMetadata {
				t.Skip("no node of this cluster has the address " + metadataAddress + ", as that of test/cluster does")
			}
			m.test(t, e)
		})
	}
	// A refresher has no volume. It is unchanged, with a message.
	t.Run("cronjob-refresher.yaml", func(t *testing.T) {
		before := read(t, manifests+"cronjob-refresher.yaml")
		after, said, code := migrate(t, before)
		if code != 3 || after != before || !strings.Contains(said, "not migrated: CronJob refresh: ") {
			t.Errorf("exit code %d, %s\n%s", code, said, cmp.Diff(before, after))
		}
	})
}

func (m migration) test(t *testing.T, e *env) {
	v := vault{env: e, name: "e2e" + newGUID()[:8]}
	tree := map[string]string{}
	for _, name := range m.runs {
		r := readRun(t, name)
		if v.clientID == "" {
			v.clientID = r.azure.AADClientID
			if m.manifest != "service-principal-file.yaml" {
				v.clientID = assignedID
			}
			v.admin(t, "/vaults", object{"name": v.name, "tenant": r.azure.TenantID})
			m.login(t, e, r.azure.TenantID, v.clientID)
			v.admin(t, "/grant", object{"vault": v.name, "clientID": v.clientID})
		}
		v.fill(t, r)
		r.addFiles(t, tree, m.folder)
	}

	changes := []string{"myvault", v.name}
	if m.changes != nil {
		changes = append(changes, m.changes(func(name, variable string) string {
			return strconv.Quote(readRun(t, name).environment[variable]) // valid YAML too
		})...)
	}
	manifest := read(t, manifests+m.manifest)
	for change := range slices.Chunk(changes, 2) {
		if strings.Count(manifest, change[0]) != 1 {
			t.Fatalf("%s does not hold %q once", m.manifest, change[0])
		}
		manifest = strings.Replace(manifest, change[0], change[1], 1)
	}
	migrated, said, code := migrate(t, manifest)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, said)
	}

	p := e.newPod("migrated")
	p.namespace = agentNamespace
	p.create(t, p.ofManifest(t, migrated))
	p.awaitRunning(t)
	files, err := p.files(t.Context(), m.at)
	if err != nil {
		t.Fatal(err)
	}
	delete(files, ".")
	got := map[string]string{}
	for name, f := range files {
		got[name] = f.Mode + " " + string(f.Data)
	}
	if diff := cmp.Diff(tree, got); diff != "" {
		t.Errorf("the container reads other files than with the init container (-before +now):\n%s", diff)
	}
}

// migrate runs the command in a pipe.
func migrate(t *testing.T, manifest string, flags ...string) (migrated, said string, code int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	command := exec.CommandContext(t.Context(), "../../bin/kvcsi", append([]string{"migrate", "-f", "-"}, flags...)...)
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(manifest), &stdout, &stderr
	err := command.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	}
	return stdout.String(), stderr.String(), command.ProcessState.ExitCode()
}

// ofManifest is the pod of a manifest, with the tests' image instead of the application's.
func (p *pod) ofManifest(t *testing.T, manifest string) object {
	t.Helper()
	type podSpec struct {
		InitContainers []object `yaml:"initContainers"`
		Containers     []object
		Volumes        []object
	}
	var document struct {
		Kind string
		Spec struct {
			podSpec  `yaml:",inline"`
			Template struct{ Spec podSpec }
		}
	}
	if err := yaml.Unmarshal([]byte(manifest), &document); err != nil {
		t.Fatal(err)
	}
	spec := document.Spec.podSpec
	if document.Kind != "Pod" {
		spec = document.Spec.Template.Spec
	}
	if len(spec.Containers) != 1 || len(spec.InitContainers) != 0 || len(spec.Volumes) != 1 {
		t.Fatalf("the migrated pod has more than one container and one volume:\n%s", manifest)
	}
	spec.Containers[0]["image"], spec.Containers[0]["args"] = p.testImage, []string{"hold"}
	delete(spec.Containers[0], "command")
	return object{
		"apiVersion": "v1", "kind": "Pod", "metadata": object{"name": p.name},
		"spec": object{
			"containers": spec.Containers, "volumes": spec.Volumes,
			"nodeSelector": object{"kubernetes.io/hostname": p.hostname}, "terminationGracePeriodSeconds": 1,
		},
	}
}

// startMetadata serves the dev cloud's metadata service at its address in Azure, during a test. It needs a node that has this address.
func (e *env) startMetadata(t *testing.T) bool {
	t.Helper()
	var addresses []string
	if err := e.onNode(t.Context(), http.MethodGet, "/addresses", nil, &addresses); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(addresses, metadataAddress) {
		return false
	}
	p := e.newPod("metadata")
	p.namespace = systemNamespace
	p.create(t, object{
		"apiVersion": "v1", "kind": "Pod", "metadata": object{"name": p.name},
		"spec": object{
			"hostNetwork": true, "nodeSelector": object{"kubernetes.io/hostname": e.hostname},
			"automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
			"containers": []object{{
				"name": "metadata", "image": e.testImage,
				"args": []string{"forward", metadataAddress + ":80", e.cloudAddress(t) + ":8082"},
			}},
		},
	})
	eventually(t, "metadata service", func(ctx context.Context) error {
		status, err := p.status(ctx)
		if err == nil && (len(status.Status.ContainerStatuses) != 1 || !status.Status.ContainerStatuses[0].Ready) {
			err = fmt.Errorf("it is %+v", status.Status)
		}
		return err
	})
	return true
}
