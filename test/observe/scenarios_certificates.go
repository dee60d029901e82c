package observe

import (
	"context"
	"encoding/pem"
	"errors"
	"strings"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

func beginCertificate(ctx context.Context, s *Fixture, life time.Duration) error {
	name := s.next("web")
	_, err := s.Vault.SetCertificate(name, devcloud.CertificateOptions{KeyType: devcloud.P256, NotAfter: time.Now().Add(life)})
	if err != nil {
		return err
	}
	return s.startPod(ctx, s.workload("certificate-pod", name))
}

// A certificate is imported with its root, and without the intermediate between.
func beginIncompleteChain(ctx context.Context, s *Fixture) error {
	name := s.next("web")
	whole, err := s.Vault.SetCertificate(name, devcloud.CertificateOptions{
		KeyType: devcloud.P256, ContentType: devcloud.PEMFile, Intermediates: 1, Order: devcloud.LeafFirst,
	})
	if err != nil {
		return err
	}
	intermediate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: whole.CAs[0].Raw})
	part := strings.Replace(whole.Value, string(intermediate), "", 1)
	if part == whole.Value {
		return errors.New("the secret of the certificate does not have its intermediate")
	}
	if _, err := s.Vault.SetCertificate(name, devcloud.CertificateOptions{ContentType: devcloud.PEMFile, PEM: []byte(part)}); err != nil {
		return err
	}
	return s.startPod(ctx, s.workload("chain-pod", name))
}
