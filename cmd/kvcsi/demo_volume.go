//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/keyvault-csi/keyvault-csi/internal/aging"
	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

// publish mounts a volume with one attribute of each kind.
func (d *demo) publish(ctx context.Context) (map[string]any, error) {
	attributes := fmt.Sprintf(`           vault: %q
           clientID: %q
           secrets: "db-password;payment-key;web-tls::web.crt:web.key"
           certificates: "web-tls"
           objects: |
             - secret: app-smtp-password
               path: app/smtp-password
               mode: "0440"
`, d.seeded.Vault.URL(), devcloud.SeedWorkload)
	d.volume = kubelet.Volume{Name: "secrets", Namespace: devcloud.SeedNamespace, ServiceAccount: devcloud.SeedServiceAccount}
	if err := yaml.Unmarshal([]byte(attributes), &d.volume.Attributes); err != nil {
		return nil, err
	}
	d.say(`3. Pod        %s/%s asks for a volume:

     volumes:
     - name: %s
       csi:
         driver: keyvault-csi.io
         readOnly: true
         volumeAttributes:
%s
`, d.volume.Namespace, d.volume.ServiceAccount, d.volume.Name, attributes)
	if err := d.kubelet.Publish(ctx, d.volume); err != nil {
		return nil, fmt.Errorf("NodePublishVolume: %w", err)
	}
	vault := d.cloud.Count(devcloud.CountKey{Service: devcloud.ServiceVault})
	login := d.cloud.Count(devcloud.CountKey{Service: devcloud.ServiceLogin})
	d.say("   NodePublishVolume answered OK in %s; the vault saw %d requests, Entra ID %d.\n", d.took(), vault, login)
	return map[string]any{"vaultRequests": vault, "loginRequests": login}, nil
}

// look shows what a container sees, and checks what a screen cannot show.
func (d *demo) look(context.Context) (map[string]any, error) {
	target := d.kubelet.Target(d.volume)
	mounts, err := kubelet.Mounts(target)
	if len(mounts) != 1 || mounts[0].Type != "tmpfs" || !strings.HasPrefix(strings.Join(mounts[0].Options, ","), "ro,nosuid,nodev,noexec") {
		return nil, errors.Join(err, fmt.Errorf("the target is not one read-only tmpfs but: %+v", mounts))
	}
	m := mounts[0]
	d.say("\n4. Volume     in memory and read-only, as the mount table has it; its files as a container sees them\n\n     %s on %s (%s; %s)\n\n",
		m.Type, m.Target, strings.Join(m.Options, ","), strings.Join(m.Super, ","))
	files, err := d.list(target)
	certificate, err2 := d.certificate(filepath.Join(target, "certs_keys"))
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	if size := files["secrets/payment-key"]; size != 32 {
		return nil, fmt.Errorf("payment-key is tagged base64 and holds 32 bytes, but its file has %d", size)
	}
	return map[string]any{"mount": m, "files": files, "certificate": certificate}, nil
}

// list prints the tree with modes and sizes, never values, and returns the sizes of the files. The names at the top of
// a volume are links into ..data.
func (d *demo) list(target string) (map[string]int64, error) {
	sizes := map[string]int64{}
	err := fs.WalkDir(os.DirFS(filepath.Join(target, "..data")), ".", func(name string, e fs.DirEntry, err error) error {
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
func (d *demo) rotate(ctx context.Context) (map[string]any, error) {
	target := d.kubelet.Target(d.volume)
	before, _ := os.Readlink(filepath.Join(target, "..data"))
	const value = "a password that nobody has seen before"
	d.seeded.Vault.SetSecret("db-password", value, devcloud.SecretOptions{})
	if err := aging.Set(target, time.Now().Add(-2*time.Minute)); err != nil { // the default rotation interval
		return nil, err
	}
	d.start = time.Now() // what is above is not the driver's work
	if err := d.kubelet.Publish(ctx, d.volume); err != nil {
		return nil, fmt.Errorf("NodePublishVolume: %w", err)
	}
	took := d.took()
	after, _ := os.Readlink(filepath.Join(target, "..data"))
	content, err := os.ReadFile(filepath.Join(target, "secrets/db-password")) //nolint:gosec // G304: our own volume
	switch {
	case err != nil || string(content) != value:
		return nil, errors.Join(err, errors.New("after the rotation the pod still reads the old db-password"))
	case before == after:
		return nil, errors.New("the data folder was changed in place instead of replaced")
	}
	d.say("\n5. Rotation   db-password changes in the vault. A kubelet calls again every 60 to 90 s; the volume's time is set\n" +
		"              back by its rotation interval of 2m, so that you need not wait.\n\n")
	d.say("   NodePublishVolume answered OK in %s; the pod reads the new value, all files changed at once:\n", took)
	d.say("     ..data -> %s   before\n     ..data -> %s   now\n", before, after)
	return map[string]any{"before": before, "after": after}, nil
}

func (d *demo) unpublish(ctx context.Context) (map[string]any, error) {
	if err := d.kubelet.Unpublish(ctx, d.volume); err != nil {
		return nil, fmt.Errorf("NodeUnpublishVolume: %w", err)
	}
	took := d.took()
	mounts, err := kubelet.Mounts(d.dir)
	left, err2 := os.ReadDir(filepath.Join(d.kubelet.Root, "pods"))
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	if len(mounts) > 0 || len(left) > 0 {
		return nil, fmt.Errorf("the pod is gone, but %d mounts and %d folders are left", len(mounts), len(left))
	}
	d.say("\n6. Teardown   NodeUnpublishVolume answered OK in %s; mounts left: 0, folders left: 0.\n", took)
	return map[string]any{"mounts": 0, "folders": 0}, nil
}
