package provider_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/provider/v1alpha1"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// FuzzMount: whatever a call holds, it is answered or refused in one line without a part of the Secret, and it does not panic.
func FuzzMount(f *testing.F) {
	f.Add(attributes, "", target, "420", "")
	f.Add(`{"a":1}`, "x", "", "0", "secret/a")
	f.Add("null", `"`, "/", "-1", "")
	f.Add(strings.Replace(attributes, "useVMManagedIdentity", "usePodIdentity", 1), "\n", target, "4e2", "")
	f.Fuzz(func(t *testing.T, attributes, secret, target, permission, current string) {
		const marker = "MARKER-4711"
		p := &pipeline{}
		r := &v1alpha1.MountRequest{
			Attributes: attributes, Secrets: `{"clientid":"` + marker + `","clientsecret":"` + marker + secret + `"}`, TargetPath: target, Permission: permission,
		}
		if current != "" {
			r.CurrentObjectVersion = []*v1alpha1.ObjectVersion{{Id: current}}
		}
		s := newServer(t, p)
		s.Describe(r)
		_, err := s.Mount(t.Context(), r)
		switch {
		case err == nil && len(p.requests) == 1 && p.requests[0].Refresh == (current != ""):
		case !errors.Is(err, volume.ErrInvalid):
			t.Errorf("%v after %d requests", err, len(p.requests))
		case strings.Contains(err.Error(), marker) || strings.ContainsAny(err.Error(), "\n\r"):
			t.Errorf("the error is %q", err)
		}
	})
}
