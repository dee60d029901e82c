package daemon_test

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/prototext"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/provider/v1alpha1"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// Planted secrets: a value of a vault, and credentials of the daemon.
const (
	plantedValue   = "MARKER-value-5c1f"
	plantedWrong   = "MARKER~client~secret~77aa"
	plantedCluster = "MARKER~cluster~secret~31d0"
	plantedProxy   = "MARKER-proxy-password-19ab"
	plantedPolicy  = "MARKER-in-the-wrong-file-8e02"
	// The positive control, which is public and must be found.
	plantedControl = "marker-in-a-name-which-is-no-secret"
)

// leaks is a daemon, and everything that it has written and answered.
type leaks struct {
	*node.Node
	texts  map[string]*strings.Builder // by place
	calls  int
	policy string // files
	login  string
	folder []string // where the daemon may write files
}

// TestNothingSecretLeaves plants values, secrets and tokens, makes everything fail, with the highest verbosity and with debug output of the
// libraries, and searches all output, answers and files of the daemon. In each place it must find a positive control.
func TestNothingSecretLeaves(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			l := newLeaks(t, format)
			l.succeed(t)
			l.failByRequest(t)
			l.provider(t)
			l.failByCloud(t)
			l.failByFiles(t)
			l.failToStart(t)
			l.failInAnOutage(t)
			l.pages(t)
			l.process(t)
			l.files(t)
			l.crash(t)
			l.search(t)
		})
	}
}

func newLeaks(t *testing.T, format string) *leaks {
	t.Helper()
	work, temporary, config := t.TempDir(), t.TempDir(), t.TempDir()
	l := &leaks{texts: map[string]*strings.Builder{}, policy: filepath.Join(config, "policy.yaml"), login: filepath.Join(config, "azure.json")}
	replace(t, l.policy, goodPolicy)
	replace(t, l.login, clusterLogin(plantedCluster))
	l.Node = node.New(t, node.Options{
		Flags: []string{
			"-v=10", "--logging-format=" + format, "--policy-file=" + l.policy, "--cluster-identity-file=" + l.login,
			"--mount-max-age=0", "--last-known-good=1h",
		},
		Env: []string{
			"TMPDIR=" + temporary, "GOTRACEBACK=crash", "GODEBUG=http2debug=2", "AZURE_SDK_GO_LOGGING=all",
			"GRPC_GO_LOG_SEVERITY_LEVEL=info", "GRPC_GO_LOG_VERBOSITY_LEVEL=99", "GRPC_BINARY_LOG_FILTER=*",
		},
		Provider:   true,
		ProxyLogin: "somebody:" + plantedProxy,
		Restrict:   func() error { return unix.Chdir(work) },
	})
	l.folder = []string{work, temporary, l.Dir}
	l.Vault.SetSecret("db-password", plantedValue, devcloud.SecretOptions{})
	l.Vault.SetSecret(plantedControl, plantedValue, devcloud.SecretOptions{})
	l.Vault.SetSecret("two-lines", plantedValue+"\n"+plantedValue, devcloud.SecretOptions{})
	if _, err := l.Vault.SetCertificate("web", devcloud.CertificateOptions{}); err != nil {
		t.Fatal(err)
	}
	l.Vault.SetSecret("json-quote", `{"a": "'`+plantedValue+`"}`, devcloud.SecretOptions{})
	l.Vault.SetSecret("pfx", base64.StdEncoding.EncodeToString([]byte(plantedValue)), devcloud.SecretOptions{ContentType: devcloud.PKCS12})
	l.Vault.SetSecret("pem", "-----BEGIN PRIVATE KEY-----\n"+base64.StdEncoding.EncodeToString([]byte(plantedValue))+"\n-----END PRIVATE KEY-----\n",
		devcloud.SecretOptions{ContentType: devcloud.PEMFile})
	return l
}

const goodPolicy = "rules: [{namespaces: ['*'], identities: [workload, servicePrincipal, cluster], clientIDs: ['*']}]\n"

func clusterLogin(secret string) string {
	return fmt.Sprintf(`{"tenantId": %q, "aadClientId": %q, "aadClientSecret": %q}`, node.Tenant, node.PrincipalID, secret)
}

// add adds a text to the search.
func (l *leaks) add(where, text string) {
	if l.texts[where] == nil {
		l.texts[where] = &strings.Builder{}
	}
	l.texts[where].WriteString(text + "\n")
}

// try publishes a volume that may fail, twice, reads its health, and unpublishes it.
func (l *leaks) try(t *testing.T, v kubelet.Volume) {
	t.Helper()
	l.calls++
	v.Name = fmt.Sprintf("try-%d", l.calls)
	err := l.Publish(t.Context(), v)
	l.add("answers", fmt.Sprint(err))
	if err != nil {
		return
	}
	l.Node.Age(t, v, time.Hour)
	l.add("answers", fmt.Sprint(l.Publish(t.Context(), v)))
	l.conditions(t, v)
	l.Node.MustUnpublish(t, v)
}

func (l *leaks) conditions(t *testing.T, v kubelet.Volume) {
	t.Helper()
	stats, err := l.Driver.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: v.ID(), VolumePath: l.Target(v)})
	l.add("conditions", fmt.Sprintf("%s %s %v", prototext.Format(stats), stats.ProtoReflect().GetUnknown(), err))
	health, err := l.Driver.NodeGetVolumeHealth(t.Context(), &csi.NodeGetVolumeHealthRequest{VolumeId: v.ID(), VolumePublishPath: l.Target(v)})
	l.add("conditions", fmt.Sprintf("%s %v", prototext.Format(health), err))
}

func fromVault(names string, pairs ...string) kubelet.Volume {
	return workload(append([]string{"secrets", names}, pairs...)...)
}

func principal(secret map[string]string) kubelet.Volume {
	v := fromVault("db-password", "clientID", "")
	v.Secret = secret
	return v
}

func (l *leaks) succeed(t *testing.T) {
	t.Helper()
	l.try(t, fromVault("db-password"))
	l.try(t, fromVault("", "objects", "- {certificate: web, pfx: f, pfxPassword: {secret: db-password}}\n- {manifest: versions.json, tags: true}"))
	l.try(t, principal(map[string]string{"clientid": node.PrincipalID, "clientsecret": node.PrincipalSecret}))
	old := fromVault("db-password")
	old.TokenInContext = true
	l.try(t, old)
}

func (l *leaks) failByRequest(t *testing.T) {
	t.Helper()
	l.try(t, fromVault("db-password;no-such"))
	l.try(t, fromVault("", "objects", "- {secret: db-password, encoding: hex}"))
	l.try(t, fromVault("", "objects", "- {secret: db-password, field: /a/b}"))
	l.try(t, fromVault("", "objects", "- {env: a, from: [{secret: json-quote, name: UID}]}"))
	l.try(t, fromVault("", "objects", "- {env: a, from: [{secret: json-quote}, {secrets: {prefix: db}}]}"))
	l.try(t, fromVault("", "objects", "- {secret: json-quote, fields: {a: /a/b, b: /a}}"))
	l.try(t, fromVault("", "objects", "- {certificate: pfx}\n- {certificate: pem}"))
	l.try(t, fromVault(plantedControl+"-missing"))
	l.try(t, fromVault("db-password", "objects", plantedValue+": ["))
	l.try(t, fromVault("", "objects", "- {certificate: web, pfx: f, pfxPassword: {secret: two-lines}}"))
	l.try(t, fromVault("", "objects", "- {certificate: pfx, pfx: f, pfxPassword: {secret: db-password}}"))
	l.try(t, fromVault("", "objects", "- {certificate: web, pfx: f, pfxPassword: {secret: pfx-password, vault: no-such-vault}}"))
	l.try(t, fromVault("db-password", "clientID", "99999999-0000-0000-0000-000000000000"))
	l.try(t, principal(map[string]string{"clientid": node.PrincipalID, "clientsecret": plantedWrong}))
	l.try(t, principal(map[string]string{"clientid": node.PrincipalID, "clientsecret": node.PrincipalSecret, "clientcertificate": plantedWrong}))
	l.try(t, principal(map[string]string{"clientid": node.PrincipalID, "clientcertificate": plantedWrong, "clientcertificatepassword": plantedWrong}))
	l.try(t, principal(map[string]string{"clientid": node.PrincipalID, "clientcertificate": damagedPEM(plantedWrong)}))
	stranger := fromVault("db-password")
	stranger.ServiceAccount = "stranger" // without a federated credential
	l.try(t, stranger)
}

// provider makes the calls of the Secrets Store CSI Driver that succeed and fail, with secrets in each of their fields.
func (l *leaks) provider(t *testing.T) {
	t.Helper()
	client := l.Provider(t)
	call := func(class kubelet.Volume, change ...func(*v1alpha1.MountRequest)) {
		t.Helper()
		l.calls++
		class.Name = fmt.Sprintf("class-%d", l.calls)
		request := l.MustMountRequest(t, class)
		for _, f := range change {
			f(request)
		}
		_, err := client.Mount(t.Context(), request)
		l.add("answers of the provider", fmt.Sprint(err))
	}
	login := func(secret string) kubelet.Volume {
		class := node.Class("", "clientID", "", "objects", objects("db-password"))
		class.Secret = map[string]string{"clientid": node.PrincipalID, "clientsecret": secret}
		return class
	}
	good := node.Class("", "objects", objects("db-password"))
	call(good)
	call(good, func(r *v1alpha1.MountRequest) {
		r.CurrentObjectVersion = []*v1alpha1.ObjectVersion{{Id: "secret/db-password", Version: "1"}}
	})
	call(login(node.PrincipalSecret))
	call(login(plantedWrong))
	call(node.Class("", "objects", objects(plantedControl, "no-such")))
	call(node.Class("", "objects", "array:\n- |\n  objectName: db-password\n  objectType: secret\n  objectEncoding: hex\n"))
	call(node.Class("", "objects", "array:\n- |\n  objectName: pfx\n  objectType: secret\n- |\n  objectName: pem\n  objectType: secret\n"))
	stranger := node.With(good)
	stranger.ServiceAccount = "stranger"
	call(stranger)
	for _, broken := range []string{plantedWrong, `{"` + plantedWrong, `["` + plantedWrong + `"]`, `{"clientsecret":{"x":"` + plantedWrong + `"}}`} {
		call(good, func(r *v1alpha1.MountRequest) { r.Attributes = broken })
		call(good, func(r *v1alpha1.MountRequest) { r.Secrets = broken })
		call(good, func(r *v1alpha1.MountRequest) { r.Permission = broken })
		call(good, func(r *v1alpha1.MountRequest) { r.Attributes = r.Attributes[:len(r.Attributes)-2] + broken })
	}
	clear, err := l.Cloud.Inject(devcloud.Fault{Action: devcloud.Malformed, Service: devcloud.ServiceVault, Text: `{"value":"` + plantedValue + `"`})
	if err != nil {
		t.Fatal(err)
	}
	defer clear()
	call(good)
}

// vaultError is an error in the form of a vault.
func vaultError(message string) string {
	return fmt.Sprintf(`{"error":{"code":"Forbidden","message":%q}}`, message)
}

func (l *leaks) failByCloud(t *testing.T) {
	t.Helper()
	for i, f := range []devcloud.Fault{
		{Action: devcloud.Throttle, Service: devcloud.ServiceVault, RetryAfter: time.Hour},
		{Action: devcloud.Fail, Service: devcloud.ServiceVault, Status: 500},
		{Action: devcloud.Cut, Service: devcloud.ServiceVault, After: 40},
		{Action: devcloud.Malformed, Service: devcloud.ServiceVault, Text: `{"value":"` + plantedValue + `"`},
		{Action: devcloud.Malformed, Service: devcloud.ServiceVault, Text: `{"value":{"nested":"` + plantedValue + `"}}`},
		{Action: devcloud.Malformed, Service: devcloud.ServiceVault, Status: 404, Text: "<html>" + plantedValue, ContentType: "text/html"},
		{Action: devcloud.Malformed, Service: devcloud.ServiceVault, Status: 403, Text: vaultError("Public network access is disabled " + plantedValue)},
		{Action: devcloud.Malformed, Service: devcloud.ServiceVault, Status: 401, Text: vaultError("[TokenExpired] " + plantedValue)},
		{Action: devcloud.Malformed, Service: devcloud.ServiceVault, Status: 401, Text: vaultError("AKV10046: " + plantedValue)},
		{Action: devcloud.Malformed, Service: devcloud.ServiceVault, Text: `{"id":"` + plantedValue + `","value":null}`},
		{Action: devcloud.Challenge, Service: devcloud.ServiceVault, Text: "Bearer " + plantedValue},
		{Action: devcloud.Reset, Service: devcloud.ServiceVault},
		{Action: devcloud.Hang, Service: devcloud.ServiceVault},
		{Action: devcloud.Fail, Service: devcloud.ServiceLogin, Status: 500},
		{Action: devcloud.Malformed, Service: devcloud.ServiceLogin, Text: `{"access_token":"` + plantedValue},
		{Action: devcloud.Malformed, Service: devcloud.ServiceLogin, Status: 403, Text: "<html>" + plantedValue, ContentType: "text/html"},
		{Action: devcloud.Malformed, Service: devcloud.ServiceLogin, Status: 400, Text: `{"error":"invalid_request","error_description":"AADSTS90061: ` + plantedValue + `"}`},
		{Action: devcloud.Malformed, Service: devcloud.ServiceLogin, Status: 400, Text: `{"error":"invalid_resource","error_description":"AADSTS500011: ` + plantedValue + `"}`},
	} {
		// With a new vault and a new identity, which are not affected by the fault before.
		name := fmt.Sprintf("faulty-%d", i)
		vault, err := l.Cloud.AddVault(name, devcloud.VaultOptions{Tenant: node.Tenant})
		if err != nil {
			t.Fatal(err)
		}
		vault.Grant(node.WorkloadID)
		vault.SetSecret("db-password", plantedValue, devcloud.SecretOptions{})
		v := fromVault("db-password")
		if f.Service == devcloud.ServiceLogin {
			v = principal(map[string]string{"clientid": node.PrincipalID, "clientsecret": plantedWrong + name})
		}
		if f.Action == devcloud.Hang {
			v = node.With(v, "timeout", "2s")
		}
		clear, err := l.Cloud.Inject(f)
		if err != nil {
			t.Fatal(err)
		}
		l.try(t, node.With(v, "vault", name))
		clear()
	}
}

// failByFiles makes the files of the operator invalid.
func (l *leaks) failByFiles(t *testing.T) {
	t.Helper()
	cluster := fromVault("db-password", "clientID", "", "identity", "cluster")
	l.try(t, cluster) // its secret is wrong
	for _, login := range []string{clusterLogin(plantedCluster)[:90], `{"aadClientSecret": {"x": "` + plantedCluster + `"}}`, plantedCluster, `["` + plantedCluster + `"]`} {
		replace(t, l.login, login)
		l.try(t, cluster)
	}
	for _, policy := range []string{clusterLogin(plantedPolicy), plantedPolicy, "rules: " + plantedPolicy, "rules: [" + plantedPolicy, "- " + plantedPolicy} {
		replace(t, l.policy, policy)
		l.try(t, fromVault("db-password"))
	}
	replace(t, l.policy, goodPolicy)
	l.add("answers", "policy and login "+plantedControl)
}

// damagedPEM has a marker in a private key and behind a line BEGIN of an unknown type.
func damagedPEM(marker string) string {
	return "-----BEGIN PRIVATE KEY-----\n" + marker + "\n-----END PRIVATE KEY-----\n-----BEGIN " + marker + "-----\n" + marker
}

// failToStart starts the daemon with invalid files, and with an invalid address of a proxy.
func (l *leaks) failToStart(t *testing.T) {
	t.Helper()
	wrong := filepath.Join(t.TempDir(), "wrong-file")
	replace(t, wrong, "-----BEGIN "+plantedPolicy+"-----\n"+plantedPolicy)
	ctx := suite.Context(t) // in case the daemon starts
	run := func(flag, port string) *exec.Cmd {
		again := exec.CommandContext(ctx, l.Binary(), "--node-id=n", "--http-address=", "--endpoint=unix://"+l.Dir+"/other.sock", flag)
		again.Env = []string{"HTTPS_PROXY=http://somebody:" + plantedProxy + "@127.0.0.1:" + port}
		return again
	}
	for flag, port := range map[string]string{"--ca-bundle=" + wrong: "1", "--v=0": "%zz"} {
		out, err := run(flag, port).CombinedOutput()
		if err == nil {
			t.Errorf("with %s the daemon starts", flag)
		}
		l.add("answers", string(out))
	}
	// It starts with an invalid policy.
	again := run("--policy-file="+wrong, "1")
	pipe, err := again.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(pipe); lines.Scan(); {
		l.add("answers", lines.Text())
		if strings.Contains(lines.Text(), "serving CSI") {
			_ = again.Process.Signal(syscall.SIGTERM)
		}
	}
	if err := again.Wait(); err != nil {
		t.Errorf("with a wrong policy the daemon ends with %v", err)
	}
}

// failInAnOutage has a volume whose refreshes fail, and one that starts with the last known values.
func (l *leaks) failInAnOutage(t *testing.T) {
	t.Helper()
	before, during := fromVault("db-password"), fromVault("db-password")
	before.Name, during.Name = "before", "during"
	l.Node.MustPublish(t, before)
	stop, err := l.Cloud.Inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Fail, Status: 503})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	l.Node.MustPublish(t, during)
	l.Node.Age(t, before, time.Hour)
	l.add("answers", fmt.Sprint(l.Publish(t.Context(), before)))
	if found := l.contents(t); !strings.Contains(found, plantedValue) {
		t.Error("the search of files is blind: the value is in a volume now")
	}
	for _, v := range []kubelet.Volume{before, during} {
		l.conditions(t, v)
		l.Node.MustUnpublish(t, v)
	}
}

// pages are the daemon's pages, and those that Go programs serve by mistake.
func (l *leaks) pages(t *testing.T) {
	t.Helper()
	for path, want := range map[string]int{
		"/metrics": 200, "/healthz": 200, "/readyz": 200, "/volumes": 200, "/": 404, "/debug/pprof/": 404, "/debug/pprof/heap": 404,
		"/debug/pprof/goroutine?debug=2": 404, "/debug/pprof/cmdline": 404, "/debug/pprof/trace": 404, "/debug/vars": 404, "/debug/requests": 404,
		"/debug/events": 404, "/configz": 404, "/flagz": 404, "/statusz": 404,
	} {
		code, body, err := l.Get(t.Context(), path)
		if err != nil || code != want {
			t.Errorf("GET %s: %d, %v, want %d", path, code, err, want)
		}
		l.add("pages", body)
	}
}

// process is what ps(1) and /proc show. The password of the proxy is in the environment, because the operator sets it there;
// TestMemoryIsNobodysElse tests who can read it.
func (l *leaks) process(t *testing.T) {
	t.Helper()
	proc := fmt.Sprintf("/proc/%d/", l.PID())
	l.add("environment", strings.Replace(node.ReadFile(t, proc+"environ"), plantedProxy, "", 1))
	l.add("command line", node.ReadFile(t, proc+"cmdline"))
	inherited := openFiles(t, "/proc/self/") // the test may have inherited open files
	for to := range openFiles(t, proc) {
		if !inherited[to] && !strings.HasPrefix(to, "/dev/") && !strings.HasPrefix(to, "/sys/fs/cgroup/") { // the Go runtime's
			t.Errorf("%s is open without a call", to)
		}
	}
}

// openFiles are the paths of the open files of a process.
func openFiles(t *testing.T, proc string) map[string]bool {
	t.Helper()
	fds, err := filepath.Glob(proc + "fd/*")
	if err != nil || len(fds) == 0 {
		t.Fatalf("open files of %s: %v, %v", proc, fds, err)
	}
	paths := map[string]bool{}
	for _, fd := range fds {
		if to, _ := os.Readlink(fd); strings.HasPrefix(to, "/") { // "" when it is closed by now
			paths[to] = true
		}
	}
	return paths
}

// files adds the files in the folders that the daemon can write to.
func (l *leaks) files(t *testing.T) {
	t.Helper()
	for _, folder := range l.folder[:2] {
		if left := names(t, folder); len(left) != 0 {
			t.Errorf("left in the working or temporary folder: %v", left)
		}
	}
	l.add("files", l.contents(t))
}

func (l *leaks) contents(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, folder := range l.folder {
		err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				all.WriteString(path + ":\n" + node.ReadFile(t, path) + "\n")
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}

// crash makes the daemon print the stacks of all its goroutines and end.
func (l *leaks) crash(t *testing.T) {
	t.Helper()
	before := len(l.Output())
	l.add("log", l.Output())
	if _, err := l.StopDaemon(syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	l.add("crash", l.Output()[before:])
	if left := names(t, l.folder[0]); len(left) != 0 {
		t.Errorf("the crash left %v", left)
	}
}

func (l *leaks) search(t *testing.T) {
	t.Helper()
	controls := map[string][]string{
		"log": {plantedControl, "try-1-0", "shop/class-", "Mount", "the policy file cannot be used", "volume published without the vault"},
		"answers": {
			plantedControl, "no-such", "is not hex", "PKCS#12", "holds a control character", "AADSTS7000215", "HTTP 429", "HTTP 500", "DeadlineExceeded",
			"is not a JSON object", "HTTP 503", "--ca-bundle: ", "everything is refused until it can", "HTTPS_PROXY: ",
		},
		"answers of the provider": {"<nil>", "no-such", "is not hex", "AADSTS7000215", "AADSTS7002", "attributes are not", "secrets are not", "permission is not"},
		"conditions":              {"the files are the last that this node saw", "HTTP 503"},
		"pages":                   {"keyvault_csi_build_info", "ok"},
		"environment":             {"HTTPS_PROXY=http://somebody:@", "SSL_CERT_FILE="},
		"command line":            {"--cluster-identity-file="},
		"files":                   {"ca.pem:\n-----BEGIN CERTIFICATE-----"},
		"crash":                   {"SIGABRT: abort", "goroutine ", "grpc"},
	}
	var forms []string
	for _, marker := range []string{plantedValue, plantedWrong, plantedCluster, plantedProxy, plantedPolicy, node.PrincipalSecret} {
		forms = append(forms, marker, url.QueryEscape(marker), fmt.Sprintf("%x", marker)[:24],
			base64.StdEncoding.EncodeToString([]byte(marker))[:12], base64.RawURLEncoding.EncodeToString([]byte(marker))[:12],
			base64.StdEncoding.EncodeToString([]byte("somebody:" + marker))[:20]) // as in Proxy-Authorization
	}
	// Every access token and assertion is a JWT, which begins with these letters.
	if token, err := l.Token(t.Context(), workload()); err != nil || !strings.HasPrefix(token, "eyJ") {
		t.Errorf("the search for tokens does not work: one begins with %.3s (%v)", token, err)
	}
	forms = append(forms, "eyJ")
	slices.Sort(forms)
	forms = slices.Compact(forms)
	for where, text := range l.texts {
		for _, control := range controls[where] {
			if !strings.Contains(text.String(), control) {
				t.Errorf("the search does not work: %q is not in the %s", control, where)
			}
		}
		for _, form := range forms {
			if line := lineWith(text.String(), form); line != "" {
				t.Errorf("%q is in the %s: %s", form, where, line)
			}
		}
	}
	if len(l.texts) != len(controls) {
		t.Errorf("%d places were searched, want %d", len(l.texts), len(controls))
	}
	size := 0
	for _, text := range l.texts {
		size += text.Len()
	}
	suite.Verdict(t, "leaks: %d bytes in %d places searched for %d forms of 6 secrets and for tokens, after %d volumes in every kind of trouble; failed: %t",
		size, len(l.texts), len(forms), l.calls, t.Failed())
}

func lineWith(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return line
		}
	}
	return ""
}
