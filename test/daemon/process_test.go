package daemon_test

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

func TestBadFlags(t *testing.T) {
	t.Parallel()
	binary, err := node.DaemonBinary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(t.TempDir(), "ca.pem")
	replace(t, damaged, "-----BEGIN CERTIFICATE-----\nMIIB\n")
	for name, test := range map[string]struct {
		args []string
		line string
	}{
		"unknown flag":        {[]string{"--colour=red"}, "flag provided but not defined: -colour (see --help)"},
		"an argument":         {[]string{"--node-id=n", "serve"}, `unexpected argument "serve" (see --help)`},
		"no node":             {nil, "--node-id: is empty, and so is $NODE_NAME; give the name of this node (see --help)"},
		"endpoint":            {[]string{"--node-id=n", "--endpoint=tcp://127.0.0.1:1"}, `--endpoint: "tcp://127.0.0.1:1" is not unix:// and an absolute path (see --help)`},
		"driver name":         {[]string{"--node-id=n", "--driver-name="}, "--driver-name: is empty (see --help)"},
		"kubelet root":        {[]string{"--node-id=n", "--kubelet-root=kubelet"}, `--kubelet-root: "kubelet" is not an absolute path (see --help)`},
		"registration socket": {[]string{"--node-id=n", "--registration-socket=reg.sock"}, `--registration-socket: "reg.sock" is not an absolute path (see --help)`},
		"rotation interval":   {[]string{"--node-id=n", "--rotation-interval=1s"}, "--rotation-interval: 1s is less than 30s (0 = never) (see --help)"},
		"no duration":         {[]string{"--node-id=n", "--rotation-interval=soon"}, `invalid value "soon" for flag -rotation-interval: parse error (see --help)`},
		"bytes":               {[]string{"--node-id=n", "--max-volume-bytes=lots"}, `invalid value "lots" for flag -max-volume-bytes: not a number of bytes, such as 16777216, 16Mi or 1Gi (see --help)`},
		"no bytes":            {[]string{"--node-id=n", "--max-volume-bytes=0"}, "--max-volume-bytes: must be positive (see --help)"},
		"files":               {[]string{"--node-id=n", "--max-volume-files=0"}, "--max-volume-files: must be positive (see --help)"},
		"logging format":      {[]string{"--node-id=n", "--logging-format=xml"}, `--logging-format: "xml" is neither text nor json (see --help)`},
		"verbosity":           {[]string{"--node-id=n", "-v=-1"}, "--v: -1 is not between 0 and 127 (see --help)"},
		"cloud":               {[]string{"--node-id=n", "--cloud=AzureMoonCloud"}, `unknown cloud "AzureMoonCloud"; known are AzurePublicCloud, AzureUSGovernmentCloud, AzureChinaCloud, custom (see --help)`},
		"CA bundle": {[]string{"--node-id=n", "--ca-bundle=" + damaged},
			"--ca-bundle: " + damaged + " has damaged PEM: block 1 of 1 (CERTIFICATE) has no line -----END CERTIFICATE----- (see --help)"},
		"half a custom cloud": {[]string{"--node-id=n", "--cloud=custom"}, "the cloud custom needs an authority host and a vault DNS suffix (see --help)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), binary, test.args...)
			cmd.Env = []string{}
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			err := cmd.Run()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 2 {
				t.Errorf("ended with %v, want exit code 2", err)
			}
			if got, want := stderr.String(), "keyvault-csi-driver: "+test.line+"\n"; got != want {
				t.Errorf("wrote\n %q, want\n %q", got, want)
			}
		})
	}
}

// An invalid proxy is an error, because without a proxy requests would go out directly. The error does not contain the value, which may have
// a password.
func TestBadProxy(t *testing.T) {
	t.Parallel()
	binary, err := node.DaemonBinary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"HTTPS_PROXY": "http://somebody:password%zz@127.0.0.1:1",
		"https_proxy": "http://somebody:pass/word@127.0.0.1:port",
		"no host":     "http://:1",
		"a path":      "/proxy",
		"white space": " ",
		"no proxy":    "ftp://somebody:password@127.0.0.1:1",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			variable := "HTTPS_PROXY"
			if strings.HasSuffix(name, "_proxy") {
				variable = name
			}
			cmd := exec.CommandContext(suite.Context(t), binary, "--node-id=n", "--http-address=", "--endpoint=unix://"+t.TempDir()+"/csi.sock")
			cmd.Env = []string{variable + "=" + value, "NO_PROXY=*"}
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 2 {
				t.Errorf("ended with %v, want exit code 2", err)
			}
			want := "keyvault-csi-driver: HTTPS_PROXY: is not the address of a proxy, such as http://proxy.example.org:3128 (see --help)\n"
			if got := string(out); got != want {
				t.Errorf("wrote\n %q, want\n %q", got, want)
			}
		})
	}
}

// A process that can connect to the socket can mount any pod's secrets. The daemon makes missing folders.
func TestTheSocketsArePrivate(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "kvreg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	registration := filepath.Join(dir, "new/folder/reg.sock")
	n := node.New(t, node.Options{Flags: []string{"--registration-socket=" + registration}, Restrict: func() error {
		unix.Umask(0)
		return nil
	}})
	n.Vault.SetSecret("db-password", "hunter2", devcloud.SecretOptions{})
	v := workload("secrets", "db-password")
	n.MustPublish(t, v)
	suite.Eventually(t, "the daemon listens for the kubelet", func() bool {
		_, err := os.Lstat(registration)
		return err == nil
	})
	for path, want := range map[string]string{
		n.Socket:                   "Srw-------",
		registration:               "Srw-------",
		filepath.Dir(registration): "drwx------",
		filepath.Join(dir, "new"):  "drwx------",
		filepath.Dir(n.Target(v)):  "drwxr-x---", // the kubelet's
		n.Target(v):                "drwxr-xr-x", // the volume's
	} {
		info, err := os.Lstat(path)
		if err != nil {
			t.Error(err)
		} else if got := info.Mode().String(); got != want {
			t.Errorf("%s has mode %s, want %s", path, got, want)
		}
	}
}

func TestHealthAndMetrics(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	n.Vault.SetSecret("db-password", "hunter2", devcloud.SecretOptions{})
	n.MustPublish(t, workload("secrets", "db-password"))
	for path, want := range map[string]struct {
		code int
		body []string
	}{
		"/healthz": {200, []string{"ok"}},
		"/readyz":  {200, []string{"ok"}},
		"/metrics": {200, []string{
			`keyvault_csi_build_info{go="go`,
			`keyvault_csi_operations_seconds_count{code="OK",method="NodePublishVolume"} 1`,
		}},
		"/debug/pprof/": {404, nil},
	} {
		code, body, err := n.Get(t.Context(), path)
		if err != nil || code != want.code {
			t.Errorf("GET %s: %d, %v, want %d", path, code, err, want.code)
		}
		for _, part := range want.body {
			if !strings.Contains(body, part) {
				t.Errorf("GET %s lacks %s", path, part)
			}
		}
	}
}

func TestNoCoreFiles(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	limits := node.ReadFile(t, filepath.Join("/proc", strconv.Itoa(n.PID()), "limits"))
	for line := range strings.Lines(limits) {
		if strings.HasPrefix(line, "Max core file size") && strings.Fields(line)[4] != "0" {
			t.Errorf("core files are allowed: %s", line)
		}
	}
}

// A call in flight is answered before the daemon ends.
func TestGracefulStop(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	n.Vault.SetSecret("db-password", "hunter2", devcloud.SecretOptions{})
	clear, err := n.Cloud.Inject(devcloud.Fault{Action: devcloud.Hang, Service: devcloud.ServiceVault})
	if err != nil {
		t.Fatal(err)
	}
	v := workload("secrets", "db-password")
	published := make(chan error, 1)
	go func() { published <- n.Publish(t.Context(), v) }()
	if err := n.Cloud.Wait(t.Context(), devcloud.CountKey{Service: devcloud.ServiceVault}, 1); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(n.PID(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	awaitOutput(t, n, `"stopping"`)
	clear()
	// The hanging request fails, the SDK retries, and the call succeeds.
	if err := <-published; err != nil {
		t.Errorf("the call in flight: %v", err)
	}
	state, err := n.StopDaemon(syscall.SIGTERM)
	if err != nil || state.ExitCode() != 0 {
		t.Errorf("ended with %v, %v, want exit code 0", state, err)
	}
	if _, err := os.Lstat(n.Socket); err == nil {
		t.Error("the socket is left behind")
	}
	if got := node.ReadFile(t, filepath.Join(n.Target(v), "secrets/db-password")); got != "hunter2" {
		t.Errorf("after the end of the daemon the pod reads %q", got)
	}
}

func awaitOutput(t *testing.T, n *node.Node, part string) {
	t.Helper()
	suite.Eventually(t, "the daemon writes "+part, func() bool { return strings.Contains(n.Output(), part) })
}

// The kubelet finds the daemon by its registration socket, which returns the path of the CSI socket on the node.
func TestRegistration(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "kvreg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "keyvault-csi.io-reg.sock")
	n := node.New(t, node.Options{Flags: []string{"--registration-socket=" + socket}})
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	kubelet := registration.NewRegistrationClient(conn)
	ctx := suite.Context(t)
	info, err := kubelet.GetInfo(ctx, &registration.InfoRequest{}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	if info.GetType() != registration.CSIPlugin || info.GetName() != "keyvault-csi.io" ||
		info.GetEndpoint() != filepath.Join(n.Root, "plugins/keyvault-csi.io/csi.sock") {
		t.Errorf("the kubelet gets %v", info)
	}
	if code, body, err := n.Get(ctx, "/readyz"); code != 503 {
		t.Errorf("ready before the kubelet has registered the driver: %d %s %v", code, body, err)
	}
	if _, err := kubelet.NotifyRegistrationStatus(ctx, &registration.RegistrationStatus{PluginRegistered: true}); err != nil {
		t.Fatal(err)
	}
	if code, body, err := n.Get(ctx, "/readyz"); code != 200 {
		t.Errorf("not ready after the registration: %d %s %v", code, body, err)
	}
	state, err := n.StopDaemon(syscall.SIGTERM)
	if err != nil || state.ExitCode() != 0 {
		t.Errorf("ended with %v, %v", state, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left in the registration folder: %v, %v", entries, err)
	}
}

// The socket of a killed daemon is replaced; the socket of a running daemon is not.
func TestASecondDaemonOnTheSameSocket(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	if _, err := n.StopDaemon(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := n.StartDaemon(t.Context()); err != nil {
		t.Fatalf("on a stale socket: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), n.Binary(), "--endpoint=unix://"+n.Socket, "--node-id=other", "--http-address=", "--kubelet-root="+n.Root)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), n.Socket) {
		t.Errorf("a second daemon on a live socket ended with %v: %s", err, out)
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "unix", n.Socket)
	if err != nil {
		t.Errorf("the first daemon lost its socket: %v", err)
	} else {
		_ = conn.Close()
	}
}
