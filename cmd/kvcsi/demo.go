//go:build linux

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

const demoUsage = `kvcsi demo shows the driver's main job on this machine, with no cluster and no Azure: it runs a dev cloud, starts the
driver as a process of its own, calls the driver's CSI socket as a kubelet does, and shows what a pod sees: the files, a
rotation, and nothing at the end. It needs root or the right to make a user namespace, and mounts only in a mount
namespace of its own. Exit code 0 means that every step succeeded.

Usage: kvcsi demo [--driver FILE] [--json]

`

// runDemo starts the program again in a mount namespace, where the demo runs.
func runDemo(ctx context.Context, c command) (exitCode int, err error) {
	driver := c.flags.String("driver", "", "the driver's `program`; default: keyvault-csi-driver beside kvcsi, or on the PATH")
	asJSON := c.flags.Bool("json", false, "print one JSON object instead of text")
	if code, err := c.parse(func() { c.printHelp(c.stderr, demoUsage) }); code != parsed {
		return code, err
	}
	if !mountns.Inside() {
		return mountns.Rerun(context.WithoutCancel(ctx)) // it passes signals on and waits for the clean-up
	}
	d := demo{driverPath: cmp.Or(*driver, findDriver()), screen: bufio.NewWriter(c.stdout)}
	if !*asJSON {
		return exitOK, d.run(ctx)
	}
	d.screen.Reset(io.Discard)
	result := map[string]any{"ok": true}
	if err = d.run(ctx); err != nil {
		result = map[string]any{"ok": false, "error": err.Error()}
	}
	result["steps"] = d.steps
	text, _ := json.MarshalIndent(result, "", "  ")
	fmt.Fprintln(c.stdout, string(text))
	return exitOK, err
}

// findDriver returns the driver beside kvcsi. If there is none, it returns a name, which is looked for on the PATH.
func findDriver() string {
	const name = "keyvault-csi-driver"
	self, _ := os.Executable()
	path, _ := exec.LookPath(filepath.Join(filepath.Dir(self), name))
	return cmp.Or(path, name)
}

// demo is one run.
type demo struct {
	screen     *bufio.Writer
	driverPath string
	steps      []step    // for --json
	start      time.Time // of the step

	dir     string
	cloud   *devcloud.Cloud
	seeded  *devcloud.Seeded
	kubelet kubelet.Kubelet
	volume  kubelet.Volume

	driver *exec.Cmd
	stderr bytes.Buffer  // of the driver
	exited chan struct{} // closed when the driver has ended; nil before its start
	conn   *grpc.ClientConn
}

// step is one step of the demo and, in JSON, its result.
type step struct {
	Name         string         `json:"name"`
	Milliseconds float64        `json:"milliseconds"`
	Seen         map[string]any `json:"seen"`

	do func(context.Context) (seen map[string]any, err error)
}

// run makes every step and cleans up in any case.
func (d *demo) run(ctx context.Context) (err error) {
	// Not below TMPDIR, which may be long: the path of a socket can have 107 bytes.
	if d.dir, err = os.MkdirTemp("/tmp", "kvcsi-demo-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.clean()) }()
	// The kernel sends the driver its Pdeathsig when the thread ends that forked it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	d.say("The main job of keyvault-csi, here and now. A dev cloud plays Azure and this program plays the kubelet;\n" +
		"the driver, its socket, TLS, the mount and the files are real.\n")
	for _, s := range []step{
		{Name: "dev cloud", do: d.startCloud},
		{Name: "driver", do: d.startDriver},
		{Name: "publish", do: d.publish},
		{Name: "volume", do: d.look},
		{Name: "rotation", do: d.rotate},
		{Name: "unpublish", do: d.unpublish},
		{Name: "stop", do: d.stopDriver},
	} {
		d.start = time.Now()
		s.Seen, err = s.do(ctx)
		s.Milliseconds = float64(time.Since(d.start).Microseconds()) / 1000
		err = errors.Join(err, d.screen.Flush())
		switch {
		case ctx.Err() != nil:
			return errors.New("interrupted; everything is cleaned up")
		case err != nil:
			return err
		}
		d.steps = append(d.steps, s)
	}
	d.say("\nEvery step held.\n")
	return d.screen.Flush()
}

// say prints to the screen. The writer keeps an error until the next Flush.
func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.screen, format, args...) }

// took returns how long the step has taken so far, for the screen.
func (d *demo) took() time.Duration { return time.Since(d.start).Round(100 * time.Microsecond) }

// clean ends the driver and the cloud, unmounts what is left, and removes the files.
func (d *demo) clean() error {
	d.killDriver()
	if d.cloud != nil {
		d.cloud.Close()
	}
	mounts, err := kubelet.Mounts(d.dir)
	for _, m := range mounts {
		_ = syscall.Unmount(m.Target, syscall.MNT_DETACH)
	}
	return errors.Join(err, os.RemoveAll(d.dir))
}

func (d *demo) startCloud(ctx context.Context) (seen map[string]any, err error) {
	if d.cloud, err = devcloud.Start(context.WithoutCancel(ctx), devcloud.Options{}); err != nil { // clean closes it
		return nil, err
	}
	if d.seeded, err = devcloud.Seed(d.cloud); err != nil {
		return nil, err
	}
	url := d.seeded.Vault.URL()
	d.say("\n1. Azure      %s, Entra ID: kvcsi dev-cloud, pid %d\n", url, os.Getpid())
	return map[string]any{"vault": url, "pid": os.Getpid()}, nil
}

// startDriver starts the driver, which reaches the dev cloud like a corporate proxy and takes it for Azure. The process
// does not depend on ctx, because it must end in order also after an interruption.
func (d *demo) startDriver(ctx context.Context) (seen map[string]any, err error) {
	ca, socket, root := filepath.Join(d.dir, "ca.pem"), filepath.Join(d.dir, "csi.sock"), filepath.Join(d.dir, "kubelet")
	if err := errors.Join(os.MkdirAll(filepath.Join(root, "pods"), 0o750), os.WriteFile(ca, d.cloud.CA(), 0o600)); err != nil {
		return nil, err
	}
	d.driver = exec.Command(d.driverPath, //nolint:gosec,noctx // the driver that the user named; ended by clean
		"--endpoint=unix://"+socket, "--node-id=demo", "--kubelet-root="+root, "--http-address=")
	d.driver.Env = append(os.Environ(), "HTTPS_PROXY="+d.cloud.ProxyURL(), "SSL_CERT_FILE="+ca, "NO_PROXY=")
	d.driver.Stderr = &d.stderr
	// Ctrl-C signals the foreground process group. The demo itself ends the driver.
	d.driver.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := d.driver.Start(); err != nil {
		return nil, fmt.Errorf("start the driver: %w; build it (make build) or name it with --driver", err)
	}
	d.exited = make(chan struct{})
	go func() {
		_ = d.driver.Wait()
		close(d.exited)
	}()
	if d.conn, err = kubelet.Dial(ctx, socket, d.exited); err != nil {
		d.killDriver()
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(d.stderr.String()))
	}
	token := func(_ context.Context, v kubelet.Volume) (string, error) {
		return d.seeded.Issuer.Token(devcloud.ServiceAccountToken{Namespace: v.Namespace, ServiceAccount: v.ServiceAccount})
	}
	d.kubelet = kubelet.Kubelet{Root: root, Driver: csi.NewNodeClient(d.conn), Token: token}
	d.say("2. Driver     keyvault-csi-driver, pid %d, answers on its socket after %s\n", d.driver.Process.Pid, d.took())
	return map[string]any{"pid": d.driver.Process.Pid, "socket": socket}, nil
}

// killDriver ends the driver if it runs.
func (d *demo) killDriver() {
	if d.exited != nil {
		_ = d.driver.Process.Kill()
		<-d.exited
	}
}

// stopDriver ends the driver as Kubernetes does.
func (d *demo) stopDriver(context.Context) (map[string]any, error) {
	if err := errors.Join(d.conn.Close(), d.driver.Process.Signal(syscall.SIGTERM)); err != nil {
		return nil, err
	}
	time.AfterFunc(30*time.Second, d.killDriver) // if it ignores the signal
	<-d.exited
	if state := d.driver.ProcessState; !state.Success() {
		return nil, fmt.Errorf("on SIGTERM the driver ended with %s: %s", state, strings.TrimSpace(d.stderr.String()))
	}
	if _, err := os.Lstat(filepath.Join(d.dir, "csi.sock")); err == nil {
		return nil, errors.New("the driver left its socket behind")
	}
	d.say("              The driver ended by itself on SIGTERM, exit code 0.\n")
	return map[string]any{"exitCode": 0}, nil
}
