package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

// startTimeout is how long a process may take until it answers.
const startTimeout = 30 * time.Second

// process is a program that the demo started, with what it wrote to standard error.
type process struct {
	cmd    *exec.Cmd
	errors bytes.Buffer
	exited chan struct{}
}

// start does not tie the process to a context: it has to be stopped in the right order, also after an interruption.
func (p *process) start(cmd *exec.Cmd) error {
	p.cmd = cmd
	cmd.Stderr = &p.errors
	// A Ctrl-C goes to the foreground process group; the demo itself decides when its processes end.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.exited = make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(p.exited)
	}()
	return nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// kill is for the cleaning up: it ends whatever still runs.
func (p *process) kill() {
	if p.exited == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// cloudProcess is "kvcsi dev-cloud" and its admin API.
type cloudProcess struct {
	process
	env struct {
		VaultURL, ProxyURL, CAFile, AdminURL, TokenFile string
	}
}

func startCloudProcess(ctx context.Context, dir string) (*cloudProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &cloudProcess{}
	cmd := exec.Command(self, "dev-cloud", "--dir", dir) //nolint:gosec,noctx // this program; stopped by kill
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.start(cmd); err != nil {
		return nil, err
	}
	// Its first line says that it serves and that its files are written.
	ready := make(chan error, 1)
	go func() {
		_, err := bufio.NewReader(stdout).ReadString('\n')
		ready <- err
		_, _ = io.Copy(io.Discard, stdout)
	}()
	select {
	case err = <-ready:
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(startTimeout):
		err = errors.New("no answer")
	}
	if err == nil {
		err = c.readEnv(dir)
	}
	if err != nil {
		c.kill()
		return nil, fmt.Errorf("start the dev cloud: %w: %s", err, strings.TrimSpace(c.errors.String()))
	}
	return c, nil
}

func (c *cloudProcess) readEnv(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "env")) //nolint:gosec // G304: written by the dev cloud
	if err != nil {
		return err
	}
	values := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		values[key] = value
	}
	c.env.VaultURL = "https://" + devcloud.SeedVault + ".vault.azure.net"
	c.env.ProxyURL, c.env.CAFile, c.env.AdminURL = values["HTTPS_PROXY"], values["SSL_CERT_FILE"], values["KVCSI_ADMIN_URL"]
	c.env.TokenFile = filepath.Join(dir, "token")
	return nil
}

// token is the service account token that a kubelet would get from the API server.
func (c *cloudProcess) token(context.Context, kubelet.Volume) (string, error) {
	text, err := os.ReadFile(c.env.TokenFile)
	return strings.TrimSpace(string(text)), err
}

func (c *cloudProcess) setSecret(ctx context.Context, name, value string) error {
	body, err := json.Marshal(map[string]string{"vault": devcloud.SeedVault, "name": name, "value": value})
	if err != nil {
		return err
	}
	return c.admin(ctx, http.MethodPost, "/secrets", body, nil)
}

// requests counts what the vault and Entra ID were asked since the start.
func (c *cloudProcess) requests(ctx context.Context) (vault, login int, err error) {
	var counts []struct {
		devcloud.CountKey
		Count int
	}
	if err := c.admin(ctx, http.MethodGet, "/counts", nil, &counts); err != nil {
		return 0, 0, err
	}
	for _, line := range counts {
		switch line.Service {
		case devcloud.ServiceVault:
			vault += line.Count
		case devcloud.ServiceLogin:
			login += line.Count
		}
	}
	return vault, login, nil
}

func (c *cloudProcess) admin(ctx context.Context, method, path string, body []byte, answer any) error {
	request, err := http.NewRequestWithContext(ctx, method, c.env.AdminURL+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the dev cloud's admin API answered %s to %s", response.Status, path)
	}
	if answer == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(answer)
}

// driverProcess is the daemon and a connection to its socket.
type driverProcess struct {
	process
	socket, kubeletRoot string
	node                csi.NodeClient
	conn                *grpc.ClientConn
}

func startDriverProcess(ctx context.Context, path, dir string, cloud *cloudProcess) (*driverProcess, error) {
	d := &driverProcess{socket: filepath.Join(dir, "csi.sock"), kubeletRoot: filepath.Join(dir, "kubelet")}
	if err := os.MkdirAll(filepath.Join(d.kubeletRoot, "pods"), 0o750); err != nil {
		return nil, err
	}
	cmd := exec.Command(path, //nolint:gosec,noctx // the driver that the user named; stopped by kill
		"--endpoint=unix://"+d.socket, "--node-id=demo", "--kubelet-root="+d.kubeletRoot, "--http-address=")
	// The driver finds the dev cloud as it would find a corporate proxy. Nothing in it knows that this is not Azure.
	cmd.Env = append(os.Environ(), "HTTPS_PROXY="+cloud.env.ProxyURL, "SSL_CERT_FILE="+cloud.env.CAFile, "NO_PROXY=")
	if err := d.start(cmd); err != nil {
		return nil, fmt.Errorf("start the driver: %w", err)
	}
	conn, err := kubelet.Dial(ctx, d.socket, d.exited)
	if err != nil {
		d.kill()
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(d.errors.String()))
	}
	d.conn, d.node = conn, csi.NewNodeClient(conn)
	return d, nil
}

// stop ends the driver as Kubernetes does and expects it to end well.
func (d *driverProcess) stop() error {
	_ = d.conn.Close()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-d.exited:
	case <-time.After(startTimeout):
		return errors.New("the driver does not end on SIGTERM")
	}
	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("the driver ended with exit code %d: %s", code, strings.TrimSpace(d.errors.String()))
	}
	if _, err := os.Lstat(d.socket); err == nil {
		return errors.New("the driver left its socket behind")
	}
	return nil
}

// removeTree unmounts what is left below dir and removes it.
func removeTree(dir string) error {
	mounts, err := kubelet.Mounts(dir)
	if err != nil {
		return err
	}
	for _, m := range mounts {
		_ = syscall.Unmount(m.Target, syscall.MNT_DETACH)
	}
	return os.RemoveAll(dir)
}
