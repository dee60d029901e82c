package e2e

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const syncChart = "../../charts/keyvault-csi-sync"

// registryLogin is a login for a registry, as a Secret of type kubernetes.io/dockerconfigjson holds it.
const registryLogin = `{"auths":{"registry.example.com":{"auth":"c2hvcDpwYXNzd29yZA=="}}}`

// ordersManifest is an application for the Secrets Store CSI Driver. Its two Secrets are made while its pod runs.
const ordersManifest = `
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: orders, namespace: ` + namespace + `}
spec:
  provider: azure
  secretObjects:
  - secretName: db-login
    type: Opaque
    data: [{objectName: db-password, key: password}]
  - secretName: registry
    type: kubernetes.io/dockerconfigjson
    data: [{objectName: registry, key: .dockerconfigjson}]
  parameters:
    keyvaultName: %s
    clientID: %s
    tenantID: ` + tenant + `
    objects: |
      array:
      - |
        objectName: db-password
        objectType: secret
      - |
        objectName: registry
        objectType: secret
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: orders, namespace: ` + namespace + `}
spec:
  selector: {matchLabels: {app: orders}}
  template:
    metadata: {labels: {app: orders}}
    spec:
      serviceAccountName: web
      nodeSelector: {kubernetes.io/hostname: %s}
      securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
      imagePullSecrets: [{name: registry}]
      containers:
      - name: orders
        image: %s
        args: [hold]
        env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: db-login, key: password}}}]
        securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
        volumeMounts: [{name: store, mountPath: /mnt/store, readOnly: true}]
      volumes:
      - name: store
        csi: {driver: secrets-store.csi.k8s.io, readOnly: true, volumeAttributes: {secretProviderClass: orders}}
`

// testSecrets: Secrets that the Secrets Store CSI Driver has made are kept through a migration, and follow the vault.
func testSecrets(t *testing.T, e *env) {
	if e.syncImage == "" {
		t.Skip("E2E_SYNC_IMAGE names no image")
	}
	v := e.newVault(t)
	var federated []object
	for _, account := range []string{"web", "orders-secrets"} {
		federated = append(federated, object{"issuer": v.issuer, "subject": "system:serviceaccount:" + namespace + ":" + account})
	}
	e.admin(t, "/identities", object{"tenant": tenant, "clientID": v.clientID, "federated": federated})
	v.set(t, "db-password", "first-password")
	v.set(t, "registry", registryLogin)

	// As the Secrets Store CSI Driver leaves them: with an owner, with which they are deleted.
	owner := kubeObject{}
	configMaps := "/api/v1/namespaces/" + namespace + "/configmaps"
	if err := e.call(t.Context(), http.MethodPost, configMaps, object{"metadata": object{"name": "old-owner"}}, &owner); err != nil {
		t.Fatal(err)
	}
	owned := func(name, kind, key, value string) kubeObject {
		return e.makeSecret(t, object{"metadata": object{
			"name": name, "labels": object{"secrets-store.csi.k8s.io/managed": "true"},
			"ownerReferences": []object{{"apiVersion": "v1", "kind": "ConfigMap", "name": "old-owner", "uid": owner.Metadata.UID}},
		}, "type": kind, "stringData": object{key: value}})
	}
	login := owned("db-login", "Opaque", "password", "of-the-old-driver")
	pull := owned("registry", "kubernetes.io/dockerconfigjson", ".dockerconfigjson", registryLogin)
	e.readsSecret(t, "before").mustHaveVariable(t, "of-the-old-driver")
	follow := e.followSecrets(t, "db-login", "registry")

	manifest := fmt.Sprintf(ordersManifest, v.name, v.clientID, e.hostname, e.testImage)
	migrated, said, code := migrate(t, manifest, "--sync-image", e.syncImage, "--remove-classes")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, said)
	}
	t.Cleanup(func() {
		_, err := try(context.Background(), migrated, "kubectl", "delete", "--ignore-not-found", "-f", "-")
		if err != nil {
			t.Error(err)
		}
	})
	apply(t, migrated)
	for _, name := range []string{"orders-secrets", "orders"} {
		run(t, "kubectl", "rollout", "status", "--namespace", namespace, "deployment/"+name, "--timeout=3m")
	}
	e.secretHolds(t, "db-login", "password", "first-password")
	if err := e.call(t.Context(), http.MethodDelete, configMaps+"/old-owner", nil, nil); err != nil {
		t.Fatal(err)
	}
	e.readsSecret(t, "after").mustHaveVariable(t, "first-password")

	// A rotation.
	p := e.syncPod(t)
	same := p.restarts(t)
	for i := range 3 {
		v.set(t, "db-password", fmt.Sprintf("rotated-%d", i))
		p.age(t, time.Minute)
		e.secretHolds(t, "db-login", "password", fmt.Sprintf("rotated-%d", i))
	}
	if slowest := p.slowest(t); slowest > 2*time.Second {
		t.Errorf("a Secret was written %s after its file", slowest)
	} else {
		t.Logf("a Secret was written at most %s after its file", slowest)
	}

	// An outage of the vault; the pod is killed in it, and starts again with the files that it has.
	e.admin(t, "/faults", object{"action": "fail", "host": v.name, "status": 503})
	p.age(t, time.Minute)
	killed := e.kill(t, "keyvault-csi-sync")
	e.awaitAnother(t, "keyvault-csi-sync", killed)
	e.secretHolds(t, "db-login", "password", "rotated-2")
	if err := e.adminCall(t.Context(), http.MethodDelete, "/faults", nil, nil); err != nil {
		t.Fatal(err)
	}
	v.set(t, "db-password", "after-the-outage")
	p.age(t, time.Minute)
	e.secretHolds(t, "db-login", "password", "after-the-outage")
	if same() == 0 {
		t.Error("the process was not killed")
	}

	e.testSyncAtRest(t)
	testSyncToken(t, e)

	run(t, "kubectl", "delete", "deployment", "orders-secrets", "--namespace", namespace, "--wait")
	for name, before := range map[string]kubeObject{"db-login": login, "registry": pull} {
		if after := e.secret(t, name); after.Metadata.UID != before.Metadata.UID {
			t.Errorf("the Secret %s was replaced", name)
		}
	}
	follow(t)
}

// testSyncAtRest: no request for a minute, and not more than 20 MB.
func (e *env) testSyncAtRest(t *testing.T) {
	t.Helper()
	requests := func() (sum float64) {
		var text string
		if err := e.text(t.Context(), "/metrics", &text); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "apiserver_request_total{") && strings.Contains(line, `resource="secrets"`) && !strings.Contains(line, `verb="WATCH"`) {
				value, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]), 64)
				if err != nil {
					t.Fatal(err)
				}
				sum += value
			}
		}
		return sum
	}
	before := requests()
	timer := time.NewTimer(time.Minute)
	defer timer.Stop()
	<-timer.C
	// A kubelet and the cluster's own controllers may read a Secret too.
	if sent := requests() - before; sent > 0 {
		t.Errorf("there were %g requests for Secrets in a minute", sent)
	}
	rss := e.syncMemory(t)
	if t.Logf("the process takes %.1f MB", rss); rss > 20 {
		t.Errorf("the process takes %.1f MB", rss)
	}
}

// syncMemory is the resident memory of keyvault-csi-sync in megabytes.
func (e *env) syncMemory(t *testing.T) float64 {
	t.Helper()
	for _, status := range askNode[map[string]string](t, e, "/threads", url.Values{"name": {"keyvault-csi-sync"}}) {
		_, rest, _ := strings.Cut(status, "VmRSS:")
		kilobytes, err := strconv.Atoi(strings.Fields(rest)[0])
		if err != nil {
			t.Fatal(err)
		}
		return float64(kilobytes) / 1000
	}
	t.Fatal("keyvault-csi-sync does not run")
	return 0
}

// testSyncToken: the token of the pod is of no use beside its Secrets.
func testSyncToken(t *testing.T, e *env) {
	t.Helper()
	if err := e.call(t.Context(), http.MethodPost, "/api/v1/namespaces/"+otherNamespace+"/secrets", object{
		"metadata": object{"name": "db-login"}, "stringData": object{"password": "of-others"},
	}, nil); err != nil {
		t.Fatal(err)
	}
	token := strings.TrimSpace(run(t, "kubectl", "create", "token", "orders-secrets", "--namespace", namespace))
	var config map[string]any
	if err := json.Unmarshal([]byte(run(t, "kubectl", "config", "view", "--minify", "--flatten", "--raw", "--output=json")), &config); err != nil {
		t.Fatal(err)
	}
	user := config["users"].([]any)[0].(map[string]any)
	user["user"] = object{"token": token}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	file := path.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	stolen := func(args ...string) error {
		_, err := try(t.Context(), `{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db-login"}, "stringData": {"password": "stolen"}}`,
			"kubectl", append([]string{"--kubeconfig=" + file}, args...)...)
		return err
	}
	if err := stolen("get", "secret", "db-login", "--namespace", namespace); err != nil {
		t.Errorf("its own Secret: %v", err)
	}
	for _, args := range [][]string{
		{"get", "secret", "db-login", "--namespace", otherNamespace},
		{"apply", "--server-side", "--force-conflicts", "--filename=-", "--namespace", otherNamespace},
		{"create", "--filename=-", "--namespace", otherNamespace},
		{"get", "secrets", "--namespace", namespace},
		{"get", "secrets", "--all-namespaces"},
		{"delete", "secret", "db-login", "--namespace", namespace},
		{"create", "token", "default", "--namespace", namespace},
		{"get", "pods", "--namespace", namespace},
	} {
		if err := stolen(args...); err == nil || !strings.Contains(err.Error(), "forbidden") && !strings.Contains(err.Error(), "Forbidden") {
			t.Errorf("kubectl %q: %v", args, err)
		}
	}
}

// kubeObject is the used part of an object.
type kubeObject struct {
	Metadata struct{ Name, UID string }
	Data     map[string]string
}

func (e *env) makeSecret(t *testing.T, manifest object) (made kubeObject) {
	t.Helper()
	if err := e.call(t.Context(), http.MethodPost, "/api/v1/namespaces/"+namespace+"/secrets", manifest, &made); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := e.call(context.Background(), http.MethodDelete, "/api/v1/namespaces/"+namespace+"/secrets/"+made.Metadata.Name, nil, nil)
		if err != nil && !isNotFound(err) {
			t.Error(err)
		}
	})
	return made
}

func (e *env) secret(t *testing.T, name string) (found kubeObject) {
	t.Helper()
	if err := e.get(t.Context(), "/api/v1/namespaces/"+namespace+"/secrets/"+name, &found); err != nil {
		t.Fatal(err)
	}
	return found
}

// secretHolds waits until the Secret holds the value.
func (e *env) secretHolds(t *testing.T, name, key, value string) {
	t.Helper()
	eventually(t, "Secret "+name, func(ctx context.Context) error {
		var found kubeObject
		if err := e.get(ctx, "/api/v1/namespaces/"+namespace+"/secrets/"+name, &found); err != nil {
			return err
		}
		got, err := base64.StdEncoding.DecodeString(found.Data[key])
		if err == nil && string(got) != value {
			err = fmt.Errorf("%s is %q, want %q", key, got, value)
		}
		return err
	})
}

// installSync installs the chart keyvault-csi-sync as release shop, and waits until it is ready.
func (e *env) installSync(t *testing.T, values string) {
	t.Helper()
	file := path.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
		t.Fatal(err)
	}
	colon := strings.LastIndexByte(e.syncImage, ':')
	run(t, "helm", "upgrade", "--install", "shop", syncChart, "--namespace", namespace, "--values", file, "--wait", "--timeout=3m",
		"--set", "image.repository="+e.syncImage[:colon], "--set-string", "image.tag="+e.syncImage[colon+1:],
		"--set-string", "nodeSelector.kubernetes\\.io/hostname="+e.hostname)
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := try(context.Background(), "", "kubectl", "logs", "--namespace", namespace, "deployment/shop-keyvault-csi-sync", "--tail=100")
			t.Log(out)
		}
		if _, err := try(context.Background(), "", "helm", "uninstall", "shop", "--namespace", namespace, "--ignore-not-found", "--wait"); err != nil {
			t.Error(err)
		}
	})
}

// syncPod is the pod of the release.
func (e *env) syncPod(t *testing.T) *pod {
	t.Helper()
	var pods struct{ Items []kubeObject }
	if err := e.get(t.Context(), "/api/v1/namespaces/"+namespace+"/pods?labelSelector=app.kubernetes.io/name=keyvault-csi-sync", &pods); err != nil {
		t.Fatal(err)
	}
	if len(pods.Items) != 1 {
		t.Fatalf("there are %d pods of keyvault-csi-sync", len(pods.Items))
	}
	return &pod{env: e, namespace: namespace, name: pods.Items[0].Metadata.Name, uid: pods.Items[0].Metadata.UID}
}

// restarts returns a function that returns how often the container was restarted since.
func (p *pod) restarts(t *testing.T) func() int {
	t.Helper()
	count := func() int {
		status, err := p.status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return status.Status.ContainerStatuses[0].RestartCount
	}
	before := count()
	return func() int { return count() - before }
}

// text reads what is no JSON.
func (e *env) text(ctx context.Context, what string, out *string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, e.api+what, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	var text strings.Builder
	buffer := make([]byte, 64<<10)
	for {
		n, err := answer.Body.Read(buffer)
		text.Write(buffer[:n])
		if err != nil {
			*out = text.String()
			return nil
		}
	}
}

var (
	readLine  = regexp.MustCompile(`time=(\S+) .*msg="read the files" version=\.\.(\S+)`)
	wroteLine = regexp.MustCompile(`time=(\S+) .*msg="wrote a Secret"`)
)

// slowest returns the longest time from a new set of files, whose time is in its name, to the last Secret that was written from it. Both
// times are of the node's clock. The first set is older than the program.
func (p *pod) slowest(t *testing.T) (slowest time.Duration) {
	t.Helper()
	log := run(t, "kubectl", "logs", "--namespace", p.namespace, p.name)
	var written time.Time
	sets := 0
	for line := range strings.Lines(log) {
		if found := readLine.FindStringSubmatch(line); found != nil {
			at, err := time.Parse("2006_01_02_15_04_05.999999999", found[2])
			if err != nil {
				t.Fatal(err)
			}
			written = at
			sets++
		} else if found := wroteLine.FindStringSubmatch(line); found != nil && sets > 1 {
			at, err := time.Parse(time.RFC3339Nano, found[1])
			if err != nil {
				t.Fatal(err)
			}
			slowest = max(slowest, at.Sub(written))
		}
	}
	if sets < 2 {
		t.Errorf("no new set of files was read:\n%s", log)
	}
	return slowest
}

// readsSecret runs a pod with the Secret db-login in a variable, and the Secret registry for its image.
func (e *env) readsSecret(t *testing.T, name string) *pod {
	t.Helper()
	p := e.newPod("reads-" + name)
	manifest := p.manifest(volume{emptyDir: true})
	spec := manifest["spec"].(object)
	spec["imagePullSecrets"] = []object{{"name": "registry"}}
	spec["containers"].([]object)[0]["env"] = []object{{
		"name": "PASSWORD", "valueFrom": object{"secretKeyRef": object{"name": "db-login", "key": "password"}},
	}}
	p.create(t, manifest)
	p.awaitRunning(t)
	return p
}

func (p *pod) mustHaveVariable(t *testing.T, want string) {
	t.Helper()
	var got string
	if err := p.ask(t.Context(), "/env?name=PASSWORD", &got); err != nil || got != want {
		t.Errorf("the variable of %s is %q, want %q: %v", p.name, got, want, err)
	}
}

// followSecrets watches Secrets. The returned function fails the test if one of them was deleted, or lacked its value, for an instant.
func (e *env) followSecrets(t *testing.T, names ...string) (end func(*testing.T)) {
	t.Helper()
	wanted := map[string]bool{}
	for _, name := range names {
		wanted[name] = true
	}
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, e.api+"/api/v1/namespaces/"+namespace+"/secrets?watch=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan []string, 1)
	go func() {
		defer func() { _ = answer.Body.Close() }()
		var wrong []string
		events := 0
		decoder := json.NewDecoder(answer.Body)
		for {
			var event struct {
				Type   string
				Object kubeObject
			}
			if err := decoder.Decode(&event); err != nil {
				if ctx.Err() == nil {
					wrong = append(wrong, err.Error())
				}
				break
			}
			if !wanted[event.Object.Metadata.Name] {
				continue
			}
			events++
			if event.Type == "DELETED" {
				wrong = append(wrong, event.Object.Metadata.Name+" was deleted")
			}
			if len(event.Object.Data) == 0 {
				wrong = append(wrong, event.Object.Metadata.Name+" was empty")
			}
			for key, value := range event.Object.Data {
				if value == "" {
					wrong = append(wrong, event.Object.Metadata.Name+" had no "+key)
				}
			}
		}
		if events < len(names) {
			wrong = append(wrong, fmt.Sprintf("only %d states of %q were seen", events, names))
		}
		seen <- wrong
	}()
	return func(t *testing.T) {
		t.Helper()
		cancel()
		for _, wrong := range <-seen {
			t.Error(wrong)
		}
	}
}

// testRotatingSecrets: many Secrets rotate for some time, while the program is killed. Each is the vault's newest within two intervals of the
// volume; the kubelet, which starts each refresh, comes up to one and a half times its syncFrequency later. E2E_LONG=1 takes a hundred for
// ten minutes.
func testRotatingSecrets(t *testing.T, e *env) {
	if e.syncImage == "" {
		t.Skip("E2E_SYNC_IMAGE names no image")
	}
	count, until := 10, 1*time.Minute
	if os.Getenv("E2E_LONG") != "" {
		count, until = 100, 10*time.Minute
	}
	const interval = 30 * time.Second
	frequency, err := time.ParseDuration(cmp.Or(os.Getenv("SYNC_FREQUENCY"), "1m")) // that of test/cluster, or the kubelet's default
	if err != nil {
		t.Fatal(err)
	}
	latest := 2 * (interval + frequency*3/2)
	v := e.newVault(t)
	v.identity(t, "shop-keyvault-csi-sync")
	var objects, secrets strings.Builder
	var names []string
	for i := range count {
		name := fmt.Sprintf("rotating-%d", i)
		names = append(names, name)
		v.set(t, name, name+"-0")
		fmt.Fprintf(&objects, "      - secret: %s\n", name)
		fmt.Fprintf(&secrets, "- {name: %s, data: {key: %s}}\n", name, name)
	}
	e.installSync(t, fmt.Sprintf(`
volume:
  attributes:
    vault: %s
    clientID: %s
    rotationInterval: 30s
    objects: |
%ssecrets:
%s`, v.name, v.clientID, &objects, &secrets))
	t.Cleanup(func() {
		_, _ = try(context.Background(), "", "kubectl", append([]string{"delete", "secret", "--namespace", namespace}, names...)...)
	})
	run(t, "helm", "test", "shop", "--namespace", namespace, "--timeout=2m")
	follow := e.followSecrets(t, names...)
	var lates []time.Duration // of each change
	rotations := 0
	for end := time.Now().Add(until); time.Now().Before(end); {
		rotations++
		set := map[string]time.Time{} // when each was set, until its Secret has the value
		for _, name := range names {
			set[name] = time.Now()
			v.set(t, name, fmt.Sprintf("%s-%d", name, rotations))
		}
		if rotations%6 == 2 { // the kubelet waits longer with each restart
			e.kill(t, "keyvault-csi-sync")
		}
		eventually(t, "all Secrets", func(ctx context.Context) error {
			var list struct{ Items []kubeObject }
			if err := e.get(ctx, "/api/v1/namespaces/"+namespace+"/secrets?labelSelector=sync.keyvault-csi.io/name=shop-keyvault-csi-sync", &list); err != nil {
				return err
			}
			if len(list.Items) != count {
				return fmt.Errorf("there are %d Secrets, want %d", len(list.Items), count)
			}
			var old error
			for _, s := range list.Items {
				value, _ := base64.StdEncoding.DecodeString(s.Data["key"])
				since, waiting := set[s.Metadata.Name]
				switch want := fmt.Sprintf("%s-%d", s.Metadata.Name, rotations); {
				case string(value) != want:
					old = errors.Join(old, fmt.Errorf("%s is %s", s.Metadata.Name, value))
				case waiting:
					lates = append(lates, time.Since(since))
					delete(set, s.Metadata.Name)
				}
			}
			return old
		})
	}
	slices.Sort(lates)
	late := lates[len(lates)-1]
	if late > latest {
		t.Errorf("a Secret was the newest %s after the change in the vault, which is more than %s", late, latest)
	}
	t.Logf("%d Secrets, %d rotations, %d changes: a Secret is the newest after %s (median), %s (p99), at most %s; allowed %s", count, rotations, len(lates),
		lates[len(lates)/2].Round(time.Millisecond), lates[len(lates)*99/100].Round(time.Millisecond), late.Round(time.Millisecond), latest)
	t.Logf("the process takes %.1f MB", e.syncMemory(t))
	follow(t)
}
