package manifests_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Only explicit values change the protection of volumes. The default label is not on the command line, because only the driver knows whether
// its node has SELinux; an empty label is a different setting.
func TestProtectionOfVolumes(t *testing.T) {
	t.Parallel()
	want := map[string][]string{
		"openshift":    {"--selinux-label=system_u:object_r:container_file_t:s0"},
		"custom-cloud": {"--selinux-label=", "--allow-read-write-requests"},
	}
	each(t, func(t *testing.T, name string, s set) {
		got := slices.DeleteFunc(slices.Clone(s.daemon.Args), func(argument string) bool {
			return !strings.HasPrefix(argument, "--selinux-label") && !strings.HasPrefix(argument, "--allow-read-write-requests")
		})
		if diff := cmp.Diff(append([]string{}, want[name]...), got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}
