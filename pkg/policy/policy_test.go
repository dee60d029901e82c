package policy_test

import (
	"errors"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/policy"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

func TestDefault(t *testing.T) {
	t.Parallel()

	const denied = "the driver's policy does not let service account payments/api use identity "
	const remedy = ": the operator must allow it in the policy"

	for _, tc := range []struct {
		kind volume.IdentityKind
		want string // the error's text; empty means allowed
	}{
		{kind: volume.Workload},
		{kind: volume.ServicePrincipal},
		{kind: volume.Managed, want: denied + "managed" + remedy},
		{kind: volume.Cluster, want: denied + "cluster" + remedy},
		{kind: "", want: denied + remedy},
		{kind: "Workload", want: denied + "Workload" + remedy}, // the words are exact: what is not known is refused
	} {
		t.Run(string(tc.kind), func(t *testing.T) {
			t.Parallel()

			err := policy.Default().Allow(volume.Request{
				Pod:      volume.Pod{Name: "api-0", Namespace: "payments", UID: "1", ServiceAccount: "api"},
				Identity: volume.Identity{Kind: tc.kind},
			})
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("Allow = %v, want nil", err)
			case tc.want != "" && !errors.Is(err, volume.ErrDenied):
				t.Errorf("Allow = %v, want ErrDenied", err)
			case tc.want != "" && err.Error() != tc.want:
				t.Errorf("Allow = %q, want %q", err, tc.want)
			}
		})
	}
}

// The zero value has no rule, and what no rule matches is refused.
func TestNoRuleRefuses(t *testing.T) {
	t.Parallel()

	var p policy.Policy
	if err := p.Allow(volume.Request{Identity: volume.Identity{Kind: volume.Workload}}); !errors.Is(err, volume.ErrDenied) {
		t.Errorf("Allow = %v, want ErrDenied", err)
	}
}
