package daemon_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// A volume may hold what a Secret of Kubernetes may, unless the operator allows more.
func TestVolumeOfOneMebibyte(t *testing.T) {
	t.Parallel()
	n := start(t, node.Options{})
	n.Vault.SetSecret("half", strings.Repeat("x", 1<<19), devcloud.SecretOptions{})
	n.Vault.SetSecret("other", strings.Repeat("y", 1<<19), devcloud.SecretOptions{})
	n.Vault.SetSecret("byte", "z", devcloud.SecretOptions{})
	if err := n.Publish(t.Context(), named("most", "half;other")); err != nil {
		t.Error(err)
	}
	err := n.Publish(t.Context(), named("more", "half;other;byte"))
	const want = "the volume's content is over the limit of 1048576 bytes (--max-volume-bytes); ask for fewer or smaller objects"
	if status.Code(err) != codes.ResourceExhausted || status.Convert(err).Message() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// named is the volume of a pod of its own.
func named(name, secrets string) kubelet.Volume {
	v := workload("secrets", secrets)
	v.Name = name
	return v
}
