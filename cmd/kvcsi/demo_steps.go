package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/keyvault-csi/keyvault-csi/internal/aging"
	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

// demoInterval is the driver's default rotation interval. The demo does not change it, but makes the volume look older.
const demoInterval = 2 * time.Minute

func (d *demo) startCloud(ctx context.Context) (err error) {
	start := time.Now()
	if d.cloud, err = devcloud.Start(context.WithoutCancel(ctx), devcloud.Options{}); err != nil { // clean closes it
		return err
	}
	if d.seeded, err = devcloud.Seed(d.cloud); err != nil {
		return err
	}
	url := d.seeded.Vault.URL()
	d.volume = kubelet.Volume{
		Name:           "secrets",
		Namespace:      devcloud.SeedNamespace,
		ServiceAccount: devcloud.SeedServiceAccount,
		Attributes: map[string]string{ // one of everything
			"vault":        url,
			"clientID":     devcloud.SeedWorkload,
			"secrets":      "db-password;payment-key;web-tls::web.crt:web.key",
			"certificates": "web-tls",
			"objects":      "- secret: app-smtp-password\n  path: app/smtp-password\n  mode: \"0440\"\n",
		},
	}
	d.say("\n1. Azure      %s, Entra ID: kvcsi dev-cloud, pid %d\n", url, os.Getpid())
	d.record("dev cloud", time.Since(start), map[string]any{"vault": url, "pid": os.Getpid()})
	return nil
}

// startDriver starts the driver, which reaches the dev cloud like a corporate proxy and takes it for Azure. The process
// does not depend on ctx, because it must end in order also after an interruption.
func (d *demo) startDriver(ctx context.Context) error {
	path, err := d.findDriver()
	if err != nil {
		return err
	}
	start := time.Now()
	ca, socket, root := filepath.Join(d.dir, "ca.pem"), filepath.Join(d.dir, "csi.sock"), filepath.Join(d.dir, "kubelet")
	if err := errors.Join(os.MkdirAll(filepath.Join(root, "pods"), 0o750), os.WriteFile(ca, d.cloud.CA(), 0o600)); err != nil {
		return err
	}
	d.driver = exec.Command(path, //nolint:gosec,noctx // the driver that the user named; ended by clean
		"--endpoint=unix://"+socket, "--node-id=demo", "--kubelet-root="+root, "--http-address=")
	d.driver.Env = append(os.Environ(), "HTTPS_PROXY="+d.cloud.ProxyURL(), "SSL_CERT_FILE="+ca, "NO_PROXY=")
	d.driver.Stderr = &d.stderr
	// Ctrl-C signals the foreground process group. The demo itself ends the driver.
	d.driver.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := d.driver.Start(); err != nil {
		return fmt.Errorf("start the driver: %w", err)
	}
	d.exited = make(chan struct{})
	go func() {
		_ = d.driver.Wait()
		close(d.exited)
	}()
	if d.conn, err = kubelet.Dial(ctx, socket, d.exited); err != nil {
		d.killDriver()
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(d.stderr.String()))
	}
	took := time.Since(start)
	d.kubelet = kubelet.Kubelet{Root: root, Driver: csi.NewNodeClient(d.conn), Token: func(context.Context, kubelet.Volume) (string, error) {
		return d.seeded.Issuer.Token(devcloud.ServiceAccountToken{
			Namespace: devcloud.SeedNamespace, ServiceAccount: devcloud.SeedServiceAccount,
		})
	}}
	d.say("2. Driver     keyvault-csi-driver, pid %d, answers on its socket after %s\n", d.driver.Process.Pid, round(took))
	d.record("driver", took, map[string]any{"pid": d.driver.Process.Pid, "socket": socket})
	return nil
}

func (d *demo) publish(ctx context.Context) error {
	d.say("3. Pod        %s/%s asks for a volume:\n\n%s\n", d.volume.Namespace, d.volume.ServiceAccount, podYAML(d.volume))
	took, err := d.callPublish(ctx)
	if err != nil {
		return err
	}
	vault := d.cloud.Count(devcloud.CountKey{Service: devcloud.ServiceVault})
	login := d.cloud.Count(devcloud.CountKey{Service: devcloud.ServiceLogin})
	d.say("   NodePublishVolume answered OK in %s; the vault saw %d requests, Entra ID %d.\n", round(took), vault, login)
	d.record("publish", took, map[string]any{"vaultRequests": vault, "loginRequests": login})
	return nil
}

func (d *demo) callPublish(ctx context.Context) (took time.Duration, err error) {
	start := time.Now()
	if err := d.kubelet.Publish(ctx, d.volume); err != nil {
		return 0, fmt.Errorf("NodePublishVolume: %w", err)
	}
	return time.Since(start), nil
}

// look shows what a container sees, and checks what a screen cannot show.
func (d *demo) look(context.Context) error {
	start := time.Now()
	target := d.kubelet.Target(d.volume)
	mounts, err := kubelet.Mounts(target)
	if err != nil {
		return err
	}
	if len(mounts) != 1 || mounts[0].Type != "tmpfs" || !strings.HasPrefix(strings.Join(mounts[0].Options, ","), "ro,nosuid,nodev,noexec") {
		return fmt.Errorf("the target is not one read-only tmpfs but: %+v", mounts)
	}
	m := mounts[0]
	d.say("\n4. Volume     in memory and read-only, as the mount table has it; its files as a container sees them\n\n     %s on %s (%s; %s)\n\n",
		m.Type, m.Target, strings.Join(m.Options, ","), strings.Join(m.Super, ","))
	files, err := d.list(target)
	if err != nil {
		return err
	}
	certificate, err := d.certificate(filepath.Join(target, "certs_keys"))
	if err != nil {
		return err
	}
	if size := files["secrets/payment-key"]; size != 32 {
		return fmt.Errorf("payment-key is tagged base64 and holds 32 bytes, but its file has %d", size)
	}
	d.record("volume", time.Since(start), map[string]any{"mount": m, "files": files, "certificate": certificate})
	return nil
}

// list prints the tree with modes and sizes, never values, and returns the sizes of the files. The names at the top of
// a volume are links into ..data.
func (d *demo) list(target string) (sizes map[string]int64, err error) {
	sizes = map[string]int64{}
	tree := os.DirFS(filepath.Join(target, "..data"))
	err = fs.WalkDir(tree, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		info, err := e.Info()
		switch {
		case err != nil:
			return err
		case info.IsDir():
			d.say("     %s %8s  %s/\n", info.Mode(), "", name)
		default:
			d.say("     %s %8d  %s\n", info.Mode(), info.Size(), name)
			sizes[name] = info.Size()
		}
		return nil
	})
	return sizes, err
}

// certificate prints what the files of the certificate hold, and fails if key and chain do not belong together.
func (d *demo) certificate(dir string) (map[string]any, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "web.crt"), filepath.Join(dir, "web.key"))
	if err != nil {
		return nil, err
	}
	chain, err := x509.ParseCertificates(slices.Concat(pair.Certificate...))
	if err != nil {
		return nil, err
	}
	if len(chain) < 2 {
		return nil, errors.New("web.crt holds one certificate, not a chain")
	}
	leaf := chain[0]
	d.say("\n     certs_keys/web.crt  %s, %s, for %s, until %s\n", leaf.Subject, leaf.PublicKeyAlgorithm,
		strings.Join(leaf.DNSNames, " "), leaf.NotAfter.Format(time.DateOnly))
	var issuers []string
	for i, issuer := range chain[1:] {
		if err := chain[i].CheckSignatureFrom(issuer); err != nil {
			return nil, fmt.Errorf("web.crt is not in the order of its chain: %w", err)
		}
		d.say("         issued by       %s\n", issuer.Subject)
		issuers = append(issuers, issuer.Subject.String())
	}
	d.say("     certs_keys/web.key  its private key, PKCS#8\n")
	return map[string]any{"subject": leaf.Subject.String(), "names": leaf.DNSNames, "notAfter": leaf.NotAfter, "issuers": issuers}, nil
}

// rotate changes a secret in the vault, makes the volume look older than its interval, and publishes it again.
func (d *demo) rotate(ctx context.Context) error {
	target := d.kubelet.Target(d.volume)
	before, _ := os.Readlink(filepath.Join(target, "..data"))
	const value = "a password that nobody has seen before"
	d.seeded.Vault.SetSecret("db-password", value, devcloud.SecretOptions{})
	if err := aging.Set(target, time.Now().Add(-demoInterval)); err != nil {
		return err
	}
	took, err := d.callPublish(ctx)
	if err != nil {
		return err
	}
	after, _ := os.Readlink(filepath.Join(target, "..data"))
	content, err := os.ReadFile(filepath.Join(target, "secrets/db-password")) //nolint:gosec // G304: our own volume
	switch {
	case err != nil:
		return err
	case string(content) != value:
		return errors.New("after the rotation the pod still reads the old db-password")
	case before == after:
		return errors.New("the data folder was changed in place instead of swapped")
	}
	d.say("\n5. Rotation   db-password changes in the vault. A kubelet calls again every 60 to 90 s; the volume's time is set\n" +
		"              back by its rotation interval of 2m, so that you need not wait.\n\n")
	d.say("   NodePublishVolume answered OK in %s; the pod reads the new value, all files changed at once:\n", round(took))
	d.say("     ..data -> %s   before\n     ..data -> %s   now\n", before, after)
	d.record("rotation", took, map[string]any{"before": before, "after": after})
	return nil
}

func (d *demo) unpublish(ctx context.Context) error {
	start := time.Now()
	if err := d.kubelet.Unpublish(ctx, d.volume); err != nil {
		return fmt.Errorf("NodeUnpublishVolume: %w", err)
	}
	took := time.Since(start)
	mounts, err := kubelet.Mounts(d.dir)
	left, err2 := os.ReadDir(filepath.Join(d.kubelet.Root, "pods"))
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	if len(mounts) > 0 || len(left) > 0 {
		return fmt.Errorf("the pod is gone, but %d mounts and %d folders are left", len(mounts), len(left))
	}
	d.say("\n6. Teardown   NodeUnpublishVolume answered OK in %s; mounts left: 0, folders left: 0.\n", round(took))
	d.record("unpublish", took, map[string]any{"mounts": 0, "folders": 0})
	return nil
}

// stopDriver ends the driver as Kubernetes does.
func (d *demo) stopDriver(context.Context) error {
	start := time.Now()
	if err := errors.Join(d.conn.Close(), d.driver.Process.Signal(syscall.SIGTERM)); err != nil {
		return err
	}
	select {
	case <-d.exited:
	case <-time.After(30 * time.Second):
		return errors.New("the driver does not end on SIGTERM")
	}
	if code := d.driver.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("the driver ended with exit code %d: %s", code, strings.TrimSpace(d.stderr.String()))
	}
	if _, err := os.Lstat(filepath.Join(d.dir, "csi.sock")); err == nil {
		return errors.New("the driver left its socket behind")
	}
	d.say("              The driver ended by itself on SIGTERM, exit code 0.\n")
	d.record("stop", time.Since(start), map[string]any{"exitCode": 0})
	return nil
}

// podYAML returns the volume as it is in a pod spec.
func podYAML(v kubelet.Volume) string {
	a := v.Attributes
	objects := strings.ReplaceAll(strings.TrimSpace(a["objects"]), "\n", "\n             ")
	return fmt.Sprintf(`     volumes:
     - name: %s
       csi:
         driver: keyvault-csi.io
         readOnly: true
         volumeAttributes:
           vault: %q
           clientID: %q
           secrets: %q
           certificates: %q
           objects: |
             %s
`, v.Name, a["vault"], a["clientID"], a["secrets"], a["certificates"], objects)
}

// round keeps the digits that mean something.
func round(t time.Duration) time.Duration {
	if t > 10*time.Millisecond {
		return t.Round(time.Millisecond)
	}
	return t.Round(10 * time.Microsecond)
}
