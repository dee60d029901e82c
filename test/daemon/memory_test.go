package daemon_test

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"os/exec"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// The process uses a small part of the container's memory. The rest is for the volumes, which are charged to the container too.
func TestMemoryOfTheProcess(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for name, tt := range map[string]struct {
		env   []string
		flags []string
		limit float64 // of the Go runtime
		node  float64 // of the driver and its volumes; 0: not checked
		used  float64 // of it, without volumes; 0: not checked
	}{
		"no limit given":              {nil, nil, 40 * mib, 0, 0},
		"the chart's":                 {[]string{"MEMORY_LIMIT=536870912"}, nil, 40 * mib, 512 * mib, 56 * mib},
		"larger volumes":              {[]string{"MEMORY_LIMIT=536870912"}, []string{"--max-volume-bytes=8Mi"}, (40 + 4*7) * mib, 512 * mib, 84 * mib},
		"a small one":                 {[]string{"MEMORY_LIMIT=67108864"}, nil, 16 * mib, 64 * mib, 32 * mib},
		"the operator's own":          {[]string{"GOMEMLIMIT=100MiB", "MEMORY_LIMIT=536870912"}, nil, 100 * mib, 512 * mib, 116 * mib},
		"the operator wants no limit": {[]string{"GOMEMLIMIT=off", "MEMORY_LIMIT=536870912"}, nil, 1<<63 - 1, 512 * mib, 56 * mib},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := node.New(t, node.Options{Env: tt.env, Flags: tt.flags})
			if got := n.MustMetric(t, "go_gc_gomemlimit_bytes"); got != tt.limit {
				t.Errorf("the runtime's limit is %.0f, want %.0f", got, tt.limit)
			}
			if got := n.MustMetric(t, "keyvault_csi_memory_limit_bytes"); tt.node != 0 && got != tt.node {
				t.Errorf("the driver's limit is %.0f, want %.0f", got, tt.node)
			}
			if got := n.MustMetric(t, "keyvault_csi_memory_used_bytes"); tt.used != 0 && got != tt.used {
				t.Errorf("%.0f bytes are not for volumes, want %.0f", got, tt.used)
			}
		})
	}
}

func TestBadMemoryLimit(t *testing.T) {
	t.Parallel()
	binary, err := node.DaemonBinary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"512Mi", "0", "-1"} {
		cmd := exec.CommandContext(t.Context(), binary, "--node-id=n", "--http-address=", "--endpoint=unix://"+t.TempDir()+"/csi.sock")
		cmd.Env = []string{"MEMORY_LIMIT=" + value}
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 2 {
			t.Errorf("ended with %v, want exit code 2", err)
		}
		if want := fmt.Sprintf("keyvault-csi-driver: $MEMORY_LIMIT: %q is not a number of bytes (see --help)\n", value); string(out) != want {
			t.Errorf("wrote %q, want %q", out, want)
		}
	}
}

// Volumes are mounted up to the limit. The error of the next one says what to do, and the gauges have the memory.
func TestNoMemoryForOneMoreVolume(t *testing.T) {
	t.Parallel()
	const limit = 96 << 20 // of which 24 + 16 MiB are the process's own
	n := node.New(t, node.Options{Env: []string{"MEMORY_LIMIT=" + strconv.Itoa(limit)}})
	n.Vault.SetSecret("half", strings.Repeat("x", 1<<19), devcloud.SecretOptions{})
	n.Vault.SetSecret("other", strings.Repeat("y", 1<<19), devcloud.SecretOptions{})
	if used := n.MustMetric(t, "keyvault_csi_memory_used_bytes"); used != 40<<20 {
		t.Errorf("%.0f bytes are used by the process, want 40 MiB", used)
	}
	mounted := 0
	for ; mounted < 100; mounted++ {
		v := node.Volume(fmt.Sprint("pod", mounted), "secrets", "half;other")
		if err := n.Publish(t.Context(), v); err != nil {
			want := fmt.Sprintf("mount a volume at %q: no memory is left for it on this node: it takes 2 MiB, and 96 of the driver's 96 MiB are taken by mounted volumes, "+
				"their refreshes and the driver itself; raise resources.limits.memory of the driver, or lower what pods of this node mount", n.Target(v))
			if status.Code(err) != codes.ResourceExhausted || status.Convert(err).Message() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
			break
		}
	}
	if mounted != 52 {
		t.Errorf("%d volumes of 1 MiB are mounted, want 52", mounted)
	}
	volumes, used := n.MustMetric(t, "keyvault_csi_volumes_bytes"), n.MustMetric(t, "keyvault_csi_memory_used_bytes")
	if volumes < 52<<20 || volumes > 56<<20 || used < 94<<20 || used > limit {
		t.Errorf("the gauges are: volumes %.0f, used %.0f", volumes, used)
	}
	for i := range mounted {
		if err := n.Unpublish(t.Context(), node.Volume(fmt.Sprint("pod", i), "secrets", "half;other")); err != nil {
			t.Fatal(err)
		}
	}
	if volumes := n.MustMetric(t, "keyvault_csi_volumes_bytes"); volumes != 0 {
		t.Errorf("no volume is mounted, and they take %.0f bytes", volumes)
	}
}

// A volume may have the size of a Kubernetes Secret, unless the operator allows more.
func TestVolumeOfOneMebibyte(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	n.Vault.SetSecret("half", strings.Repeat("x", 1<<19), devcloud.SecretOptions{})
	n.Vault.SetSecret("other", strings.Repeat("y", 1<<19), devcloud.SecretOptions{})
	n.Vault.SetSecret("byte", "z", devcloud.SecretOptions{})
	if err := n.Publish(t.Context(), node.Volume("most", "secrets", "half;other")); err != nil {
		t.Error(err)
	}
	err := n.Publish(t.Context(), node.Volume("more", "secrets", "half;other;byte"))
	const want = "the volume's content is over the limit of 1048576 bytes (--max-volume-bytes); ask for fewer or smaller objects"
	if status.Code(err) != codes.ResourceExhausted || status.Convert(err).Message() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// With gRPC's pages for debugging the linker keeps each method of each type: 3.6 MB of the program, which are in memory too. They are
// left out by a build tag. A build without the tag would not fail.
func TestTheProgramHasNoDebuggingPages(t *testing.T) {
	t.Parallel()
	binary, err := node.DaemonBinary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	const tag = "grpcnotrace"
	if !slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool {
		return s.Key == "-tags" && slices.Contains(strings.Split(s.Value, ","), tag) // Go adds one for FIPS 140-3
	}) {
		t.Errorf("%s was built with %v, without the tag %s", binary, info.Settings, tag)
	}
}
