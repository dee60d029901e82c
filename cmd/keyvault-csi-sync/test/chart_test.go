package sync_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/config"
)

const snapshots = "../../../charts/keyvault-csi-sync/snapshots/"

// documents reads the objects of a snapshot of the chart.
func documents(t *testing.T, text []byte) (objects []object) {
	t.Helper()
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var o object
		if err := decoder.Decode(&o); errors.Is(err, io.EOF) {
			return objects
		} else if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, o)
	}
}

// at returns what is below the keys; numbers are elements of lists.
func at(value any, keys ...any) any {
	for _, key := range keys {
		switch key := key.(type) {
		case string:
			m, _ := value.(object)
			value = m[key]
		case int:
			list, _ := value.([]any)
			if key >= len(list) {
				return nil
			}
			value = list[key]
		}
	}
	return value
}

// The program knows the flags and the configuration that the chart makes.
func TestChart(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(snapshots + "*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("snapshots: %q, %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range documents(t, text) {
				containers := at(o, "spec", "containers")
				switch o["kind"] {
				case "ConfigMap":
					c, err := config.Parse([]byte(at(o, "data", "secrets.yaml").(string)))
					if err != nil || len(c.Secrets) == 0 {
						t.Errorf("the configuration: %+v, %v", c, err)
					}
					continue
				case "Deployment":
					containers = at(o, "spec", "template", "spec", "containers")
				case "Pod":
				default:
					continue
				}
				var args []string
				for _, a := range at(containers, 0, "args").([]any) {
					args = append(args, a.(string))
				}
				if out, err := exec.Command(binary, append(slices.Clone(args), "--version")...).CombinedOutput(); err != nil {
					t.Errorf("%q: %v\n%s", args, err, out)
				}
			}
		})
	}
}

// The policy of the chart allows what the program writes, and nothing else that the Role would allow.
func TestAdmissionPolicy(t *testing.T) {
	t.Parallel()
	n := newSpace(t, "registry", "other")
	text, err := os.ReadFile(snapshots + "everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	renamed := strings.NewReplacer("kubernetes.io/metadata.name: shop", "kubernetes.io/metadata.name: "+n.name,
		"system:serviceaccount:shop:shop", "system:serviceaccount:"+n.name+":sync", "shop.shop", n.name).Replace(string(text))
	plural := map[any]string{
		"ValidatingAdmissionPolicy": "validatingadmissionpolicies", "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
	}
	applied := 0
	for _, o := range documents(t, []byte(renamed)) {
		if kind, ok := plural[o["kind"]]; ok {
			n.admin(t, http.MethodPost, "/apis/admissionregistration.k8s.io/v1/"+kind, o, nil)
			applied++
		}
	}
	if applied != 2 {
		t.Fatalf("%d objects of the policy", applied)
	}
	apply := func(name, kind string) error {
		_, err := api.do(t.Context(), "sync-"+n.name, http.MethodPatch, n.secrets()+"/"+name+"?fieldManager=x", "application/apply-patch+yaml", object{
			"apiVersion": "v1", "kind": "Secret", "type": kind, "stringData": object{".dockerconfigjson": "{}"},
			"metadata": object{"name": name, "annotations": object{"kubernetes.io/service-account.name": "sync"}},
		}, nil)
		return err
	}
	// The API server needs a moment for a new policy.
	const denied = "keyvault-csi-sync may write only the Secrets of its configuration, with their types"
	eventually(t, "the policy", func(context.Context) error {
		err := apply("registry", "kubernetes.io/service-account-token")
		if err == nil {
			n.admin(t, http.MethodDelete, n.secrets()+"/registry", nil, nil)
			return errors.New("a Secret for a token was written")
		}
		if !strings.Contains(err.Error(), denied) {
			return err
		}
		return nil
	})
	if err := apply("other", "Opaque"); err == nil || !strings.Contains(err.Error(), denied) {
		t.Errorf("a Secret that is not in the configuration: %v", err)
	}
	if err := apply("registry", "kubernetes.io/dockerconfigjson"); err != nil {
		t.Errorf("the Secret of the configuration: %v", err)
	}

	// The program names the policy that denies a Secret.
	n.configure(t, "secrets: [{name: other, data: {key: file}}]")
	n.write(t, time.Now(), "file", "of-the-vault")
	n.run(t)
	n.awaitEvent(t, "other", "AdmissionDenied",
		`the admission policy or webhook "`+n.name+`" denies it; its own log says why; the Secret stays as it is`)
}

func TestCheck(t *testing.T) {
	t.Parallel()
	n := newSpace(t, "db", "gone", "theirs")
	p := n.runOne(t)
	n.await(t, "db", holds("key", "of-the-vault"))
	p.kill(9)
	n.make(t, "theirs", nil)
	p = n.start(t, api.host, "--check")
	<-p.ended
	if code := p.command.ProcessState.ExitCode(); code != 0 || p.log.String() != "all 1 Secrets are kept by web\n" {
		t.Errorf("exit %d: %s", code, p.log)
	}
	n.configure(t, "secrets: [{name: db, data: {other: file}}, {name: gone, data: {key: file}}, {name: theirs, data: {key: file}}]")
	p = n.start(t, api.host, "--check")
	<-p.ended
	const want = `keyvault-csi-sync: secret db was made from another configuration
secret gone does not exist
secret theirs is not kept by the keyvault-csi-sync "web"
`
	if code := p.command.ProcessState.ExitCode(); code != 1 || p.log.String() != want {
		t.Errorf("exit %d: %s", code, p.log)
	}
}

func TestFlags(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"--namespace=shop --logging-format=xml": `--logging-format: "xml" is neither text nor json`,
		"--namespace=Shop":                      `--namespace: "Shop" is not a namespace`,
		"--namespace=shop --name=a/b":           `--name: "a/b" is not the value of a label`,
		"--namespace=shop rest":                 `"rest" is not a flag`,
		"--volumes=x":                           "flag provided but not defined: -volumes",
		"":                                      "--namespace is needed outside a pod",
	} {
		out, err := exec.Command(binary, strings.Fields(args)...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 2 {
			t.Errorf("%q: %v", args, err)
		}
		if text := "keyvault-csi-sync: " + want + " (see keyvault-csi-sync --help)\n"; !strings.HasSuffix(string(out), text) {
			t.Errorf("%q: %s", args, out)
		}
	}
}
