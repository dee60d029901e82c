package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

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
		if exitCode, err = mountns.Rerun(context.WithoutCancel(ctx)); err != nil { // it passes signals on and waits for the clean-up
			exitCode = exitError
		}
		return exitCode, err
	}
	screen := c.stdout
	if *asJSON {
		screen = io.Discard
	}
	d := demo{screen: bufio.NewWriter(screen), driverPath: *driver}
	result := map[string]any{"ok": true}
	if err = d.run(ctx); err != nil {
		result = map[string]any{"ok": false, "error": err.Error()}
		exitCode = exitError
	}
	if *asJSON {
		result["steps"] = d.steps
		encoder := json.NewEncoder(c.stdout)
		encoder.SetIndent("", "  ")
		_ = encoder.Encode(result)
	}
	return exitCode, err
}

// demo is one run.
type demo struct {
	screen     *bufio.Writer
	driverPath string
	steps      []step // for --json

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

// step is the result of one step.
type step struct {
	Name         string         `json:"name"`
	Milliseconds float64        `json:"milliseconds"`
	Seen         map[string]any `json:"seen"`
}

// run makes every step and cleans up in any case.
func (d *demo) run(ctx context.Context) (err error) {
	// Not below TMPDIR, which may be long: the path of a socket can have 107 bytes.
	if d.dir, err = os.MkdirTemp("/tmp", "kvcsi-demo-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.clean()) }()
	d.say("The main job of keyvault-csi, here and now. A dev cloud plays Azure and this program plays the kubelet;\n" +
		"the driver, its socket, TLS, the mount and the files are real.\n")
	for _, part := range []func(context.Context) error{
		d.startCloud, d.startDriver, d.publish, d.look, d.rotate, d.unpublish, d.stopDriver,
	} {
		err := errors.Join(part(ctx), d.screen.Flush())
		if ctx.Err() != nil {
			return errors.New("interrupted; everything is cleaned up")
		}
		if err != nil {
			return err
		}
	}
	d.say("\nEvery step held.\n")
	return d.screen.Flush()
}

// say prints to the screen. The writer keeps an error until the next Flush.
func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.screen, format, args...) }

func (d *demo) record(name string, took time.Duration, seen map[string]any) {
	d.steps = append(d.steps, step{name, float64(took.Microseconds()) / 1000, seen})
}

// clean ends the driver and the cloud, unmounts what is left, and removes the files.
func (d *demo) clean() error {
	d.killDriver()
	if d.cloud != nil {
		d.cloud.Close()
	}
	mounts, err := kubelet.Mounts(d.dir)
	if err != nil {
		return err
	}
	for _, m := range mounts {
		_ = syscall.Unmount(m.Target, syscall.MNT_DETACH)
	}
	return os.RemoveAll(d.dir)
}

// killDriver ends the driver if it runs.
func (d *demo) killDriver() {
	if d.exited != nil {
		_ = d.driver.Process.Kill()
		<-d.exited
	}
}

func (d *demo) findDriver() (string, error) {
	if d.driverPath != "" {
		return d.driverPath, nil
	}
	const name = "keyvault-csi-driver"
	self, _ := os.Executable()
	for _, path := range []string{filepath.Join(filepath.Dir(self), name), name} {
		if found, err := exec.LookPath(path); err == nil {
			return found, nil
		}
	}
	return "", fmt.Errorf("%s is neither beside kvcsi nor on the PATH; build it (make build) or name it with --driver", name)
}
