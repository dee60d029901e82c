package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
)

// look shows what a container would see, and checks what a screen cannot show.
func (d *demo) look(context.Context) error {
	start := time.Now()
	target := d.kubelet.Target(d.volume())
	mounted, err := mountOf(target)
	if err != nil {
		return err
	}
	d.say("\n4. Volume     in memory and read-only, as the mount table has it; its files as a container sees them\n\n     %s on %s (%s; %s)\n\n",
		mounted.Type, mounted.Target, strings.Join(mounted.Options, ","), strings.Join(mounted.Super, ","))
	files, err := d.list(target)
	if err != nil {
		return err
	}
	certificate, err := d.certificate(target)
	if err != nil {
		return err
	}
	if size := files["secrets/payment-key"]; size != 32 {
		return fmt.Errorf("payment-key is tagged base64 and holds 32 bytes, but its file has %d", size)
	}
	d.note("volume", time.Since(start), map[string]any{
		"mount": mounted, "files": files, "certificate": certificate,
	})
	return nil
}

// mountOf returns the mount at the target. It fails unless there is just one, and that is a read-only tmpfs.
func mountOf(target string) (kubelet.Mount, error) {
	found, err := kubelet.Mounts(target)
	if err != nil {
		return kubelet.Mount{}, err
	}
	if len(found) != 1 || found[0].Type != "tmpfs" || !strings.HasPrefix(strings.Join(found[0].Options, ","), "ro,nosuid,nodev,noexec") {
		return kubelet.Mount{}, fmt.Errorf("the target is not one read-only tmpfs but: %+v", found)
	}
	return found[0], nil
}

// list prints the tree with modes and sizes, never values, and gives the sizes of the files.
func (d *demo) list(target string) (map[string]int64, error) {
	sizes := map[string]int64{}
	top, err := os.ReadDir(target)
	if err != nil {
		return nil, err
	}
	for _, entry := range top {
		if strings.HasPrefix(entry.Name(), "..") {
			continue // the set behind the links
		}
		// Every top-level name is a link into the current set.
		root, err := filepath.EvalSymlinks(filepath.Join(target, entry.Name()))
		if err != nil {
			return nil, err
		}
		err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			name := entry.Name() + strings.TrimPrefix(path, root)
			if info.IsDir() {
				d.say("     %s %8s  %s/\n", info.Mode(), "", name)
				return nil
			}
			sizes[name] = info.Size()
			d.say("     %s %8d  %s\n", info.Mode(), info.Size(), name)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return sizes, nil
}

// certificate prints what the split files hold, and fails if key and chain do not belong together.
func (d *demo) certificate(target string) (map[string]any, error) {
	chain, err := readChain(filepath.Join(target, "certs_keys/web.crt"))
	if err != nil {
		return nil, err
	}
	key, err := readKey(filepath.Join(target, "certs_keys/web.key"))
	if err != nil {
		return nil, err
	}
	leaf := chain[0]
	public, ok := leaf.PublicKey.(interface{ Equal(x crypto.PublicKey) bool })
	if !ok || !public.Equal(key.Public()) {
		return nil, errors.New("web.key is not the key of the first certificate in web.crt")
	}
	d.say("\n     certs_keys/web.crt  %s, %s, for %s, until %s\n", leaf.Subject, leaf.PublicKeyAlgorithm,
		strings.Join(leaf.DNSNames, " "), leaf.NotAfter.Format(time.DateOnly))
	issuers := make([]string, 0, len(chain))
	for i, cert := range chain[1:] {
		if err := chain[i].CheckSignatureFrom(cert); err != nil {
			return nil, fmt.Errorf("web.crt is not in the order of its chain: %w", err)
		}
		d.say("         issued by       %s\n", cert.Subject)
		issuers = append(issuers, cert.Subject.String())
	}
	d.say("     certs_keys/web.key  its private key, PKCS#8\n")
	return map[string]any{"subject": leaf.Subject.String(), "names": leaf.DNSNames, "notAfter": leaf.NotAfter, "issuers": issuers}, nil
}

func readChain(path string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(path) //nolint:gosec // G304: our own volume
	if err != nil {
		return nil, err
	}
	var chain []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
		chain = append(chain, cert)
	}
	if len(chain) < 2 {
		return nil, fmt.Errorf("%s holds %d certificates, not a chain", filepath.Base(path), len(chain))
	}
	return chain, nil
}

func readKey(path string) (crypto.Signer, error) {
	text, err := os.ReadFile(path) //nolint:gosec // G304: our own volume
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s is not PEM", filepath.Base(path))
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s is not a PKCS#8 key", filepath.Base(path))
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s is a %T, which cannot sign", filepath.Base(path), key)
	}
	return signer, nil
}

// podYAML is the volume as it stands in a pod spec.
func podYAML(v kubelet.Volume) string {
	var b strings.Builder
	b.WriteString("     volumes:\n     - name: " + v.Name + "\n       csi:\n         driver: keyvault-csi.io\n         readOnly: true\n         volumeAttributes:\n")
	for _, key := range []string{"vault", "clientID", "secrets", "certificates", "objects"} {
		value := v.Attributes[key]
		if strings.Contains(value, "\n") {
			b.WriteString("           " + key + ": |\n")
			for line := range strings.Lines(value) {
				b.WriteString("             " + line)
			}
			continue
		}
		fmt.Fprintf(&b, "           %s: %q\n", key, value)
	}
	return b.String()
}
