package sync_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

const one = "secrets: [{name: db, data: {key: file}}]"

// runOne starts keyvault-csi-sync with the Secret db, from a file that holds of-the-vault.
func (n *space) runOne(t *testing.T, args ...string) *program {
	t.Helper()
	return n.runOneAt(t, api.host, args...)
}

// runOneAt is runOne with another host of the API server.
func (n *space) runOneAt(t *testing.T, host string, args ...string) *program {
	t.Helper()
	n.configure(t, one)
	n.write(t, time.Now(), "file", "of-the-vault")
	return n.runAt(t, host, args...)
}

func (n *space) make(t *testing.T, name string, more object) *kubeSecret {
	t.Helper()
	body := object{"metadata": object{"name": name}, "stringData": object{"key": "made-by-others", "other": "kept"}}
	for key, value := range more {
		if metadata, ok := value.(object); ok && key == "metadata" {
			metadata["name"] = name
		}
		body[key] = value
	}
	n.values = append(n.values, "made-by-others")
	var s kubeSecret
	n.admin(t, http.MethodPost, n.secrets(), body, &s)
	return &s
}

// TestSecretOfOthers: it is not touched unless the configuration says so.
func TestSecretOfOthers(t *testing.T) {
	t.Parallel()
	n := newSpace(t, "db")
	made := n.make(t, "db", object{"metadata": object{"ownerReferences": []object{
		{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-1", "uid": "6e1f6a6e-0000-4000-8000-000000000001"},
	}, "labels": object{"secrets-store.csi.k8s.io/managed": "true"}}})
	p := n.runOne(t)
	n.awaitEvent(t, "db", "NotOwned",
		"there is a Secret of this name that somebody else made; write adopt: true in its entry to take it over, or delete it")
	p.awaitMetric(t, `keyvault_csi_sync_secrets{state="refused"} 1`)
	if s := n.await(t, "db", holds("key", "made-by-others")); s.Metadata.ResourceVersion != made.Metadata.ResourceVersion {
		t.Error("it was touched")
	}
	if code, _, _ := p.fetch(t.Context(), "/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("/readyz: %d", code)
	}

	// Adopted, it keeps what is not in the configuration, but not the owner with which it would be deleted.
	n.configure(t, "secrets: [{name: db, adopt: true, data: {key: file}}]")
	s := n.await(t, "db", holds("key", "of-the-vault", "other", "kept"))
	n.awaitEvent(t, "db", "Adopted", "keyvault-csi-sync web keeps this Secret from now on")
	if s.Metadata.UID != made.Metadata.UID {
		t.Error("it was replaced, and not adopted")
	}
	if s.Metadata.Annotations["sync.keyvault-csi.io/adopted"] != "true" || s.Metadata.Labels["secrets-store.csi.k8s.io/managed"] != "true" {
		t.Errorf("its marks are %v", s.Metadata)
	}
	if len(s.Metadata.OwnerReferences) != 0 {
		t.Errorf("its owners are %v", s.Metadata.OwnerReferences)
	}

	// The mark of the adoption stays, with adopt and without.
	n.configure(t, one)
	n.write(t, time.Now().Add(time.Minute), "file", "of-the-vault-2")
	s = n.await(t, "db", holds("key", "of-the-vault-2"))
	if s.Metadata.Annotations["sync.keyvault-csi.io/adopted"] != "true" {
		t.Errorf("its marks are %v", s.Metadata)
	}
}

// A Secret of another keyvault-csi-sync of the namespace is somebody else's.
func TestTwoWithOneSecret(t *testing.T) {
	t.Parallel()
	n := newSpace(t, "db")
	n.runOne(t, "--name=first")
	n.await(t, "db", holds("key", "of-the-vault"))
	n.run(t, "--name=second")
	n.awaitEvent(t, "db", "NotOwned",
		`there is a Secret of this name that the keyvault-csi-sync "first" keeps; write adopt: true in its entry to take it over, or delete it`)
}

func TestRefusedByKubernetes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name         string
		there        object
		reason, text string
	}{
		{
			"immutable", object{"immutable": true},
			"Immutable", "it is immutable and holds other keys or values; delete it, and it is made again",
		},
		{
			"type", object{"type": "example.com/other"},
			"WrongType", "it is of type example.com/other, and Kubernetes never changes that; delete it, and it is made again as Opaque",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n := newSpace(t, "db")
			n.make(t, "db", test.there)
			n.configure(t, "secrets: [{name: db, adopt: true, data: {key: file}}]")
			n.write(t, time.Now(), "file", "of-the-vault")
			p := n.run(t)
			n.awaitEvent(t, "db", test.reason, test.text)
			p.awaitMetric(t, `keyvault_csi_sync_secrets{state="refused"} 1`)
			n.admin(t, http.MethodDelete, n.secrets()+"/db", nil, nil)
			n.await(t, "db", holds("key", "of-the-vault"))
			p.awaitMetric(t, `keyvault_csi_sync_secrets{state="synced"} 1`)
		})
	}
}

// An immutable Secret cannot lose a key.
func TestImmutableLosesAKey(t *testing.T) {
	t.Parallel()
	n := newSpace(t, "db")
	n.configure(t, "secrets: [{name: db, data: {key: file, more: file}}]")
	n.write(t, time.Now(), "file", "of-the-vault")
	p := n.run(t)
	n.await(t, "db", holds("more", "of-the-vault"))
	n.patch(t, "db", object{"immutable": true})
	n.configure(t, one)
	n.awaitEvent(t, "db", "Immutable", "it is immutable and holds other keys or values; delete it, and it is made again")
	p.awaitMetric(t, `keyvault_csi_sync_secrets{state="refused"} 1`)
}

// An immutable Secret with the right values is no problem.
func TestImmutableWithTheSameValues(t *testing.T) {
	t.Parallel()
	n := newSpace(t, "db")
	n.make(t, "db", object{"immutable": true})
	n.configure(t, "secrets: [{name: db, adopt: true, data: {key: file}}]")
	n.write(t, time.Now(), "file", "made-by-others")
	p := n.run(t)
	p.awaitMetric(t, `keyvault_csi_sync_secrets{state="synced"} 1`)
}

func TestSecretIsChangedOrDeleted(t *testing.T) {
	t.Parallel()
	n := newSpace(t, "db")
	p := n.runOne(t)
	first := n.await(t, "db", holds("key", "of-the-vault"))
	n.values = append(n.values, "changed-by-hand")
	n.patch(t, "db", object{"stringData": object{"key": "changed-by-hand"}})
	n.awaitEvent(t, "db", "Conflict", `somebody else has written .data.key of "hand"; it is written again as in the vault`)
	n.await(t, "db", holds("key", "of-the-vault"))

	// Without its label it is still the one that was made.
	n.patch(t, "db", object{"metadata": object{"labels": object{"sync.keyvault-csi.io/name": nil}}})
	n.await(t, "db", func(s *kubeSecret) error {
		if name := s.Metadata.Labels["sync.keyvault-csi.io/name"]; name != "web" {
			return fmt.Errorf("the label is %q", name)
		}
		return nil
	})

	n.admin(t, http.MethodDelete, n.secrets()+"/db", nil, nil)
	again := n.await(t, "db", holds("key", "of-the-vault"))
	if again.Metadata.UID == first.Metadata.UID {
		t.Error("it was not deleted")
	}
	p.awaitLog(t, "again=true")
}

// A quota of Secrets: the message names it, and the Secret is made when it is raised.
func TestQuota(t *testing.T) {
	t.Parallel()
	n := newSpace(t, "db")
	quotas := "/api/v1/namespaces/" + n.name + "/resourcequotas"
	quota := object{"apiVersion": "v1", "kind": "ResourceQuota", "metadata": object{"name": "q"}, "spec": object{"hard": object{"count/secrets": "0"}}}
	n.admin(t, http.MethodPost, quotas, quota, nil)
	// No controller runs here that would set the status of the quota.
	quota["status"] = object{"hard": object{"count/secrets": "0"}, "used": object{"count/secrets": "0"}}
	n.admin(t, http.MethodPut, quotas+"/q/status", quota, nil)
	p := n.runOne(t)
	p.awaitLog(t, "the quota of the namespace allows no more Secrets; raise it, or remove one")
	p.awaitMetric(t, `keyvault_csi_sync_secrets{state="failed"} 1`)
	n.admin(t, http.MethodDelete, quotas+"/q", nil, nil)
	n.await(t, "db", holds("key", "of-the-vault"))
}

// A namespace that is being deleted takes no Secret; the program survives it.
func TestNamespaceIsDeleted(t *testing.T) {
	t.Parallel()
	n := newSpace(t, "db")
	p := n.runOne(t)
	n.await(t, "db", holds("key", "of-the-vault"))
	n.admin(t, http.MethodDelete, "/api/v1/namespaces/"+n.name, nil, nil)
	n.admin(t, http.MethodDelete, n.secrets()+"/db", nil, nil)
	p.awaitLog(t, "the namespace is deleted or being deleted")
	if code, _, err := p.fetch(t.Context(), "/healthz"); code != http.StatusOK || err != nil {
		t.Errorf("/healthz: %d, %v", code, err)
	}
}

func TestPrune(t *testing.T) {
	t.Parallel()
	n := newSpace(t, "made", "adopted", "kept")
	n.admin(t, http.MethodPost, "/apis/rbac.authorization.k8s.io/v1/namespaces/"+n.name+"/roles", object{"metadata": object{"name": "prune"}, "rules": []object{
		{"apiGroups": []string{""}, "resources": []string{"secrets"}, "verbs": []string{"list", "delete"}},
	}}, nil)
	n.bind(t, "prune")
	n.make(t, "adopted", nil)
	n.make(t, "others", nil)
	// What was copied with its marks is not what was made.
	n.make(t, "copied", object{"metadata": object{
		"labels": object{"sync.keyvault-csi.io/name": "web"}, "annotations": object{"sync.keyvault-csi.io/adopted": "false"},
	}})
	all := "secrets: [{name: made, data: {key: file}}, {name: adopted, adopt: true, data: {key: file}}, {name: kept, data: {key: file}}]"
	n.configure(t, all)
	n.write(t, time.Now(), "file", "of-the-vault")
	p := n.run(t)
	p.awaitMetric(t, `keyvault_csi_sync_secrets{state="synced"} 3`)

	// The mark of the adoption comes back when somebody removes it.
	n.patch(t, "adopted", object{"metadata": object{"annotations": object{"sync.keyvault-csi.io/adopted": nil}}})
	n.await(t, "adopted", func(s *kubeSecret) error {
		if mark := s.Metadata.Annotations["sync.keyvault-csi.io/adopted"]; mark != "true" {
			return fmt.Errorf("the mark is %q", mark)
		}
		return nil
	})
	n.configure(t, "secrets: [{name: kept, data: {key: file}}]")
	p.awaitMetric(t, `keyvault_csi_sync_secrets{state="synced"} 1`)
	n.await(t, "made", holds("key", "of-the-vault")) // without prune nothing is deleted
	n.configure(t, "{prune: true, secrets: [{name: kept, data: {key: file}}]}")
	n.await(t, "made", func(s *kubeSecret) error {
		if s != nil {
			return fmt.Errorf("it is still there")
		}
		return nil
	})
	for name, value := range map[string]string{"adopted": "of-the-vault", "kept": "of-the-vault", "others": "made-by-others", "copied": "made-by-others"} {
		n.await(t, name, holds("key", value))
	}
	p.awaitLog(t, `deleted a Secret that the configuration does not name any more" secret=made`)
}

// The Role names the Secrets, also for create: server-side apply has the name in its path.
func TestRights(t *testing.T) {
	t.Parallel()
	n, other := newSpace(t, "db"), newSpace(t, "db")
	n.make(t, "db", nil)
	n.make(t, "not-named", nil)
	other.make(t, "db", nil)
	token := "sync-" + n.name
	apply := func(name string) object {
		return object{"apiVersion": "v1", "kind": "Secret", "metadata": object{"name": name}, "stringData": object{"key": "stolen"}}
	}
	for _, try := range []struct {
		what, method, path, kind string
		body                     any
		want                     int
	}{
		{"get its own", http.MethodGet, n.secrets() + "/db", "", nil, 200},
		{"get another", http.MethodGet, n.secrets() + "/not-named", "", nil, 403},
		{"list", http.MethodGet, n.secrets(), "", nil, 403},
		{"watch all", http.MethodGet, n.secrets() + "?watch=true", "", nil, 403},
		{"create by POST", http.MethodPost, n.secrets(), "", apply("new"), 403},
		{"create by apply", http.MethodPatch, n.secrets() + "/new?fieldManager=x", "application/apply-patch+yaml", apply("new"), 403},
		{"patch another", http.MethodPatch, n.secrets() + "/not-named?fieldManager=x&force=true", "application/apply-patch+yaml", apply("not-named"), 403},
		{"update its own", http.MethodPut, n.secrets() + "/db", "", apply("db"), 403},
		{"delete its own", http.MethodDelete, n.secrets() + "/db", "", nil, 403},
		{"get in another namespace", http.MethodGet, other.secrets() + "/db", "", nil, 403},
		{"patch in another namespace", http.MethodPatch, other.secrets() + "/db?fieldManager=x&force=true", "application/apply-patch+yaml", apply("db"), 403},
		{"make a token", http.MethodPost, "/api/v1/namespaces/" + n.name + "/serviceaccounts/sync/token", "", object{"spec": object{}}, 403},
		{"read the ConfigMaps", http.MethodGet, "/api/v1/namespaces/" + n.name + "/configmaps", "", nil, 403},
	} {
		code, err := api.do(t.Context(), token, try.method, try.path, try.kind, try.body, nil)
		if code != try.want {
			t.Errorf("%s: %d, want %d: %v", try.what, code, try.want, err)
		}
	}
}

// What the Role does not name is reported with the remedy.
func TestRoleDoesNotNameIt(t *testing.T) {
	t.Parallel()
	n := newSpace(t, "other")
	p := n.runOne(t)
	n.awaitEvent(t, "db", "Forbidden", "the service account may not get it; name it in the resourceNames of the Role; the Secret stays as it is")
	p.awaitLog(t, "a Secret cannot be watched")
}

func TestInvalidValues(t *testing.T) {
	t.Parallel()
	n := newSpace(t, "web-tls", "pull", "missing", "basic")
	n.configure(t, `
secrets:
- {name: web-tls, type: kubernetes.io/tls, data: {tls.crt: web.crt, tls.key: web.key}}
- {name: pull, type: kubernetes.io/dockerconfigjson, data: {.dockerconfigjson: registry}}
- {name: missing, data: {key: not-there}}
- {name: basic, type: kubernetes.io/basic-auth, data: {username: user, password: not-there}}
`)
	first, second := newPair(t), newPair(t)
	login := `{"auths":{"registry.example.com":{"auth":"c2hvcDpwYXNzd29yZA=="}}}`
	n.write(t, time.Now(), "web.crt", first.certificate, "web.key", first.key, "registry", login)
	p := n.run(t)
	n.await(t, "web-tls", holds("tls.crt", first.certificate, "tls.key", first.key))
	n.await(t, "pull", holds(".dockerconfigjson", login))
	n.awaitEvent(t, "missing", "InvalidValue",
		`key key: the volume has no file "not-there"; name it in the volume's objects, or correct the path; the Secret stays as it is`)

	n.write(t, time.Now(), "web.crt", second.certificate, "web.key", first.key, "registry", "password-of-the-registry")
	n.awaitEvent(t, "web-tls", "InvalidValue", "keys tls.crt and tls.key: the files are not a certificate and its private key; "+
		"take the chain and the key of one object; the Secret stays as it is")
	n.awaitEvent(t, "pull", "InvalidValue", "key .dockerconfigjson: the file is not a login for a registry; "+
		`it must be {"auths": {REGISTRY: {…}}} in JSON; the Secret stays as it is`)
	p.awaitMetric(t, `keyvault_csi_sync_secrets{state="invalid"} 4`)
	n.await(t, "web-tls", holds("tls.crt", first.certificate, "tls.key", first.key))
	n.await(t, "pull", holds(".dockerconfigjson", login))

	n.write(t, time.Now(), "web.crt", second.certificate, "web.key", second.key, "registry", login, "not-there", "there now", "user", "shop-user")
	n.await(t, "web-tls", holds("tls.crt", second.certificate, "tls.key", second.key))
	n.await(t, "missing", holds("key", "there now"))
	basic := n.await(t, "basic", holds("username", "shop-user", "password", "there now"))
	if basic.Type != "kubernetes.io/basic-auth" {
		t.Errorf("the type is %s", basic.Type)
	}
}

// A configuration that is not valid leaves the last one in force.
func TestBrokenConfiguration(t *testing.T) {
	t.Parallel()
	n := newSpace(t, "db")
	p := n.runOne(t)
	n.await(t, "db", holds("key", "of-the-vault"))
	n.configure(t, "secrets: [{name: db, dta: {key: file}}]")
	p.awaitMetric(t, "keyvault_csi_sync_config_broken 1")
	n.write(t, time.Now(), "file", "next-of-the-vault")
	n.await(t, "db", holds("key", "next-of-the-vault"))
	n.configure(t, one)
	p.awaitMetric(t, "keyvault_csi_sync_config_broken 0")
}

// Two pods at once, while a node is lost for example: the one with the older files leaves the Secret as it is.
func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	n := newSpace(t, "db")
	n.configure(t, one)
	n.write(t, time.Now().Add(-time.Hour), "file", "old-of-the-vault")
	stale := *n
	n.run(t)
	n.await(t, "db", holds("key", "old-of-the-vault"))
	n.volume = strings.Replace(n.volume, "volume", "second", 1)
	mkdir(t, n.volume)
	n.write(t, time.Now().Add(-time.Minute), "file", "new-of-the-vault")
	second := n.run(t)
	n.await(t, "db", holds("key", "new-of-the-vault"))
	n.awaitEvent(t, "db", "NewerVersion", "it holds values that were fetched after those in this volume; they stay until the volume is as new")
	s := n.await(t, "db", holds("key", "new-of-the-vault"))
	if !strings.Contains(second.log.String(), "wrote a Secret") {
		t.Error("the second did not write it")
	}

	// When the first has fetched again, it is right.
	stale.write(t, time.Now(), "file", "newest-of-the-vault")
	next := n.await(t, "db", holds("key", "newest-of-the-vault"))
	if s.Metadata.UID != next.Metadata.UID {
		t.Error("the Secret was replaced")
	}
	n.values = append(n.values, stale.values...)
}

// An API server that is away: the Secret is written when it answers.
func TestAPIServerIsAway(t *testing.T) {
	t.Parallel()
	n := newSpace(t, "db")
	link := newLink(t, api.host)
	p := n.runOneAt(t, link.host)
	n.await(t, "db", holds("key", "of-the-vault"))
	link.cut()
	n.write(t, time.Now(), "file", "next-of-the-vault")
	p.awaitLog(t, "the API server is away; the Secrets stay as they are, and are written when it answers")
	p.awaitMetric(t, `keyvault_csi_sync_secrets{state="failed"} 1`)
	if code, _, err := p.fetch(t.Context(), "/healthz"); code != http.StatusOK || err != nil {
		t.Errorf("/healthz: %d, %v", code, err)
	}
	link.mend()
	n.await(t, "db", holds("key", "next-of-the-vault"))
	p.awaitLog(t, "the API server answers again")

	// What happened meanwhile to the Secret is noticed too.
	link.cut()
	n.admin(t, http.MethodDelete, n.secrets()+"/db", nil, nil)
	link.mend()
	n.await(t, "db", holds("key", "next-of-the-vault"))
}
