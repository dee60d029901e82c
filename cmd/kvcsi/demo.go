package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/aging"
	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

const demoUsage = `kvcsi demo shows the driver's main job on this machine, with no cluster and no Azure: it starts a dev cloud and the
driver as processes of their own, calls the driver's CSI socket as a kubelet would, and shows what a pod would see:
the files, a rotation, and nothing at the end. It needs root or the right to make a user namespace, and mounts only in
a mount namespace of its own. Exit code 0 means that every step held.

Usage: kvcsi demo [--driver FILE] [--json]

`

// demoInterval is the driver's default; the demo does not change it, it makes the volume look older.
const demoInterval = 2 * time.Minute

// runDemo is the subcommand. What it does happens in a second run of itself, inside the namespace.
func runDemo(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("kvcsi demo", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() { fmt.Fprint(stderr, demoUsage); fs.PrintDefaults() }
	driver := fs.String("driver", "", "the driver's `program`; default: keyvault-csi-driver beside kvcsi, or on the PATH")
	asJSON := fs.Bool("json", false, "print one JSON object instead of text")
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage
	case fs.NArg() > 0:
		fmt.Fprintf(stderr, "kvcsi demo: unexpected argument %q\n", fs.Arg(0))
		return exitUsage
	}
	if !mountns.Inside() {
		code, err := mountns.Again(context.WithoutCancel(ctx)) // which hands signals on, and waits for the cleaning up
		if err != nil {
			fmt.Fprintln(stderr, "kvcsi demo:", err)
			return exitError
		}
		return code
	}
	screen := stdout
	if *asJSON {
		screen = io.Discard
	}
	d := demo{screen: screen, driverPath: *driver}
	err := d.run(ctx)
	if *asJSON {
		result := map[string]any{"ok": err == nil, "steps": d.steps}
		if err != nil {
			result["error"] = err.Error()
		}
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", "  ")
		_ = encoder.Encode(result)
	}
	if err != nil {
		fmt.Fprintln(stderr, "kvcsi demo:", err)
		return exitError
	}
	return exitOK
}

// demo is one run.
type demo struct {
	screen     io.Writer
	driverPath string

	dir     string
	cloud   *cloudProcess
	driver  *driverProcess
	kubelet kubelet.Kubelet
	steps   []step // for --json
	unsaid  error  // the first that say met
}

// step is what one part of the demo has seen.
type step struct {
	Name         string         `json:"name"`
	Milliseconds float64        `json:"milliseconds"`
	Seen         map[string]any `json:"seen"`
}

// run makes every step, and cleans up whatever happens.
func (d *demo) run(ctx context.Context) (err error) {
	// /tmp, since a socket's path may have 107 bytes only, and TMPDIR may be long.
	if d.dir, err = os.MkdirTemp("/tmp", "kvcsi-demo-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.clean()) }()
	d.say("The main job of keyvault-csi, here and now. A dev cloud plays Azure and this program plays the kubelet;\n" +
		"the driver, its socket, TLS, the mount and the files are real.\n")
	for _, part := range []func(context.Context) error{
		d.startCloud, d.startDriver, d.publish, d.look, d.rotate, d.unpublish, d.stopDriver,
	} {
		err := part(ctx)
		if ctx.Err() != nil {
			return errors.New("interrupted; everything is cleaned up")
		}
		if err != nil {
			return err
		}
	}
	d.say("\nEvery step held.\n")
	return d.unsaid
}

// say shows something; that the screen is full or gone is told at the end.
func (d *demo) say(format string, args ...any) {
	if _, err := fmt.Fprintf(d.screen, format, args...); err != nil && d.unsaid == nil {
		d.unsaid = err
	}
}

func (d *demo) note(name string, took time.Duration, seen map[string]any) {
	d.steps = append(d.steps, step{name, float64(took.Microseconds()) / 1000, seen})
}

func (d *demo) startCloud(ctx context.Context) error {
	start := time.Now()
	cloud, err := startCloudProcess(ctx, filepath.Join(d.dir, "cloud"))
	if err != nil {
		return err
	}
	d.cloud = cloud
	d.say("\n1. Azure      %s, Entra ID: kvcsi dev-cloud, pid %d\n", cloud.env.VaultURL, cloud.pid())
	d.note("dev cloud", time.Since(start), map[string]any{"vault": cloud.env.VaultURL, "pid": cloud.pid()})
	return nil
}

func (d *demo) startDriver(ctx context.Context) error {
	path, err := d.findDriver()
	if err != nil {
		return err
	}
	start := time.Now()
	d.driver, err = startDriverProcess(ctx, path, d.dir, d.cloud)
	if err != nil {
		return err
	}
	took := time.Since(start)
	d.kubelet = kubelet.Kubelet{Root: d.driver.kubeletRoot, Driver: d.driver.node, Token: d.cloud.token}
	d.say("2. Driver     keyvault-csi-driver, pid %d, answers on its socket after %s\n", d.driver.pid(), round(took))
	d.note("driver", took, map[string]any{"pid": d.driver.pid(), "socket": d.driver.socket})
	return nil
}

func (d *demo) findDriver() (string, error) {
	if d.driverPath != "" {
		return d.driverPath, nil
	}
	const name = "keyvault-csi-driver"
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), name)
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s is neither beside kvcsi nor on the PATH; build it (make build) or name it with --driver", name)
	}
	return path, nil
}

// demoVolume is a volume with one of everything.
func demoVolume(vaultURL string) kubelet.Volume {
	return kubelet.Volume{
		Name:           "secrets",
		Namespace:      devcloud.SeedNamespace,
		ServiceAccount: devcloud.SeedServiceAccount,
		Attributes: map[string]string{
			"vault":        vaultURL,
			"clientID":     devcloud.SeedWorkload,
			"secrets":      "db-password;payment-key;web-tls::web.crt:web.key",
			"certificates": "web-tls",
			"objects":      "- secret: app-smtp-password\n  path: app/smtp-password\n  mode: \"0440\"\n",
		},
	}
}

func (d *demo) volume() kubelet.Volume { return demoVolume(d.cloud.env.VaultURL) }

func (d *demo) publish(ctx context.Context) error {
	v := d.volume()
	d.say("3. Pod        %s/%s asks for a volume:\n\n%s\n", v.Namespace, v.ServiceAccount, podYAML(v))
	start := time.Now()
	if err := d.kubelet.Publish(ctx, v); err != nil {
		return fmt.Errorf("NodePublishVolume: %w", err)
	}
	took := time.Since(start)
	vault, login, err := d.cloud.requests(ctx)
	if err != nil {
		return err
	}
	d.say("   NodePublishVolume answered OK in %s; the vault saw %d requests, Entra ID %d.\n", round(took), vault, login)
	d.note("publish", took, map[string]any{"vaultRequests": vault, "loginRequests": login})
	return nil
}

// rotate changes a secret in the vault and lets the volume come of age.
func (d *demo) rotate(ctx context.Context) error {
	v := d.volume()
	target := d.kubelet.Target(v)
	before, err := os.Readlink(filepath.Join(target, "..data"))
	if err != nil {
		return err
	}
	const value = "a password that nobody has seen before"
	if err := d.cloud.setSecret(ctx, "db-password", value); err != nil {
		return err
	}
	if err := aging.Set(target, time.Now().Add(-demoInterval)); err != nil {
		return err
	}
	start := time.Now()
	if err := d.kubelet.Publish(ctx, v); err != nil {
		return fmt.Errorf("NodePublishVolume of a volume that is there: %w", err)
	}
	took := time.Since(start)
	after, err := os.Readlink(filepath.Join(target, "..data"))
	if err != nil {
		return err
	}
	got, err := os.ReadFile(filepath.Join(target, "secrets/db-password")) //nolint:gosec // G304: our own volume
	switch {
	case err != nil:
		return err
	case string(got) != value:
		return errors.New("after the rotation the pod still reads the old db-password")
	case before == after:
		return errors.New("the data folder was changed in place instead of swapped")
	}
	d.say("\n5. Rotation   db-password changes in the vault. A kubelet calls again every 60 to 90 s; the volume's time is set\n" +
		"              back by its rotation interval of 2m, so that you need not wait.\n\n")
	d.say("   NodePublishVolume answered OK in %s; the pod reads the new value, all files changed at once:\n", round(took))
	d.say("     ..data -> %s   before\n     ..data -> %s   now\n", before, after)
	d.note("rotation", took, map[string]any{"before": before, "after": after})
	return nil
}

func (d *demo) unpublish(ctx context.Context) error {
	v := d.volume()
	start := time.Now()
	if err := d.kubelet.Unpublish(ctx, v); err != nil {
		return fmt.Errorf("NodeUnpublishVolume: %w", err)
	}
	took := time.Since(start)
	mounts, err := kubelet.Mounts(d.dir)
	if err != nil {
		return err
	}
	left, err := os.ReadDir(filepath.Join(d.kubelet.Root, "pods"))
	if err != nil {
		return err
	}
	if len(mounts) > 0 || len(left) > 0 {
		return fmt.Errorf("the pod is gone, but %d mounts and %d folders are left", len(mounts), len(left))
	}
	d.say("\n6. Teardown   NodeUnpublishVolume answered OK in %s; mounts left: 0, folders left: 0.\n", round(took))
	d.note("unpublish", took, map[string]any{"mounts": 0, "folders": 0})
	return nil
}

func (d *demo) stopDriver(context.Context) error {
	start := time.Now()
	if err := d.driver.stop(); err != nil {
		return err
	}
	d.say("              The driver ended by itself on SIGTERM, exit code 0.\n")
	d.note("stop", time.Since(start), map[string]any{"exitCode": 0})
	return nil
}

// clean ends the processes and removes everything, also after an interruption in any step.
func (d *demo) clean() error {
	if d.driver != nil {
		d.driver.kill()
	}
	if d.cloud != nil {
		d.cloud.kill()
	}
	return removeTree(d.dir)
}

// round keeps two digits that mean something.
func round(t time.Duration) time.Duration {
	if t > 10*time.Millisecond {
		return t.Round(time.Millisecond)
	}
	return t.Round(10 * time.Microsecond)
}
