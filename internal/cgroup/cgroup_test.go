package cgroup_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/internal/cgroup"
)

// The lines of /proc/self/mountinfo, as kernels and runtimes write them.
const (
	v1Host      = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup none rw,memory\n"
	v1Container = "1213 1208 0:32 /kubepods/burstable/pod1/ctr /sys/fs/cgroup/memory ro,nosuid,nodev,noexec,relatime master:12 - cgroup memory rw,memory\n"
	v1Cpu       = "33 31 0:30 / /sys/fs/cgroup/cpu rw,relatime - cgroup none rw,cpu\n"
	v2Host      = "31 24 0:27 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 none rw,nsdelegate,memory_recursiveprot\n"
	v2Hybrid    = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 none rw\n"
	others      = "24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n85 24 0:39 / /tmp/x rw,relatime - tmpfs  rw\n" // the last has no source
)

// A pod of class Burstable, as systemd has its cgroup.
const (
	pods = "sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice"
	pod  = "kubepods-burstable-pod0f5e4ed4_6d5d_4e5b_8f3e_3d0f0e9f0a11.slice"
)

const (
	v1None = "9223372036854771712\n" // of a kernel with pages of 4 KiB
	mib    = 1 << 20
)

func TestLevels(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		cgroup, mounts string
		files          map[string]string
		want           []cgroup.Level
	}{
		"v2, with a namespace of its own": {
			"0::/\n", v2Host,
			map[string]string{
				"sys/fs/cgroup/memory.max": "536870912\n", "sys/fs/cgroup/memory.high": "max\n", "sys/fs/cgroup/memory.current": "104857600\n",
				"sys/fs/cgroup/memory.stat": "anon 10485760\nfile 73400320\nshmem 62914560\ninactive_file 8388608\nactive_file 2097152\n",
			},
			[]cgroup.Level{{Limit: 512 * mib, Used: 90 * mib}},
		},
		"v2, privileged, with the pod and all pods above": {
			"0::/kubepods.slice/pod1.slice/ctr.scope\n", others + v2Host,
			map[string]string{
				"sys/fs/cgroup/kubepods.slice/pod1.slice/ctr.scope/memory.max":     "536870912\n",
				"sys/fs/cgroup/kubepods.slice/pod1.slice/ctr.scope/memory.current": "20971520\n",
				"sys/fs/cgroup/kubepods.slice/pod1.slice/memory.max":               "536870912\n",
				"sys/fs/cgroup/kubepods.slice/pod1.slice/memory.current":           "419430400\n", // with the volumes of a container that was
				"sys/fs/cgroup/kubepods.slice/memory.max":                          "max\n",
				"sys/fs/cgroup/kubepods.slice/memory.current":                      "4194304000\n",
			},
			[]cgroup.Level{{Limit: 512 * mib, Used: 20 * mib}, {Limit: 512 * mib, Used: 400 * mib}},
		},
		"v2, other pods have nearly all that pods may have": { // the kubelet enforces this limit, so it is not a limit of the driver
			"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0f5e4ed4_6d5d_4e5b_8f3e_3d0f0e9f0a11.slice/cri-containerd-0123.scope\n", v2Host,
			map[string]string{
				pods + "/" + pod + "/cri-containerd-0123.scope/memory.max":     "536870912\n",
				pods + "/" + pod + "/cri-containerd-0123.scope/memory.current": "20971520\n",
				pods + "/" + pod + "/memory.max":                               "536870912\n",
				pods + "/" + pod + "/memory.current":                           "52428800\n",
				"sys/fs/cgroup/kubepods.slice/memory.max":                      "4294967296\n",
				"sys/fs/cgroup/kubepods.slice/memory.current":                  "4290772992\n",
			},
			[]cgroup.Level{{Limit: 512 * mib, Used: 20 * mib}, {Limit: 512 * mib, Used: 50 * mib}},
		},
		"v2, with cgroupfs as the kubelet's driver, of a static pod": {
			"0::/kubepods/pod0123456789abcdef0123456789abcdef/ctr\n", v2Host,
			map[string]string{
				"sys/fs/cgroup/kubepods/pod0123456789abcdef0123456789abcdef/ctr/memory.max":     "536870912\n",
				"sys/fs/cgroup/kubepods/pod0123456789abcdef0123456789abcdef/ctr/memory.current": "20971520\n",
				"sys/fs/cgroup/kubepods/memory.max":                                             "1073741824\n",
				"sys/fs/cgroup/kubepods/memory.current":                                         "1073741824\n",
			},
			[]cgroup.Level{{Limit: 512 * mib, Used: 20 * mib}},
		},
		"v2, a pod without a limit counts against that of all pods": {
			"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod0f5e4ed4_6d5d_4e5b_8f3e_3d0f0e9f0a11.slice/ctr.scope\n", v2Host,
			map[string]string{
				"sys/fs/cgroup/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod0f5e4ed4_6d5d_4e5b_8f3e_3d0f0e9f0a11.slice/ctr.scope/memory.max": "max\n",
				"sys/fs/cgroup/kubepods.slice/memory.max":     "1073741824\n",
				"sys/fs/cgroup/kubepods.slice/memory.current": "536870912\n",
			},
			[]cgroup.Level{{Limit: 1024 * mib, Used: 512 * mib}},
		},
		"v2, no controller in the own cgroup, a limit above": {
			"0::/system.slice/driver.service\n", v2Host,
			map[string]string{
				"sys/fs/cgroup/system.slice/driver.service/cgroup.procs": "",
				"sys/fs/cgroup/system.slice/memory.max":                  "1048576\n", "sys/fs/cgroup/system.slice/memory.current": "4096\n",
			},
			[]cgroup.Level{{Limit: mib, Used: 4096}},
		},
		"v2, held up above memory.high": {
			"0::/a\n", v2Host,
			map[string]string{
				"sys/fs/cgroup/a/memory.max": "104857600\n", "sys/fs/cgroup/a/memory.high": "94371840\n", "sys/fs/cgroup/a/memory.current": "1048576\n",
			},
			[]cgroup.Level{{Limit: 90 * mib, Used: mib}},
		},
		"v2, no limit": {
			"0::/a\n", v2Host,
			map[string]string{"sys/fs/cgroup/a/memory.max": "max\n", "sys/fs/cgroup/a/memory.current": "1048576\n"}, nil,
		},
		"v2, the path is of another namespace": {
			"0::/../other\n", v2Host,
			map[string]string{"sys/fs/cgroup/memory.max": "1048576\n", "sys/fs/cgroup/memory.current": "4096\n", "other/memory.max": "1\n"},
			[]cgroup.Level{{Limit: mib, Used: 4096}},
		},
		"v1, on the host": {
			"4:memory:/a/b\n3:cpuset:/\n0::/\n", others + v1Cpu + v1Host,
			map[string]string{
				"sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "104857600\n", "sys/fs/cgroup/memory/a/b/memory.usage_in_bytes": "52428800\n",
				"sys/fs/cgroup/memory/a/b/memory.stat": "cache 1\nhierarchical_memory_limit 104857600\ntotal_cache 31457280\ntotal_shmem 20971520\n" +
					"total_inactive_file 4194304\ntotal_active_file 6291456\n",
				"sys/fs/cgroup/memory/a/memory.limit_in_bytes": v1None, "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "73400320\n",
				"sys/fs/cgroup/memory/memory.limit_in_bytes": v1None, "sys/fs/cgroup/memory/memory.usage_in_bytes": "734003200\n",
			},
			[]cgroup.Level{{Limit: 100 * mib, Used: 40 * mib}},
		},
		"v1, in a container: of the pod only the limit is known": {
			"11:cpu,cpuacct:/kubepods/burstable/pod1/ctr\n8:memory:/kubepods/burstable/pod1/ctr\n", v1Container,
			map[string]string{
				"sys/fs/cgroup/memory/memory.limit_in_bytes": v1None, "sys/fs/cgroup/memory/memory.usage_in_bytes": "52428800\n",
				"sys/fs/cgroup/memory/memory.stat": "hierarchical_memory_limit 104857600\ntotal_inactive_file 1048576\n",
			},
			[]cgroup.Level{{Limit: 100 * mib, Used: 49 * mib}},
		},
		"v1, the path is the host's, the mount is the container's": {
			"8:memory:/docker/0123\n", v1Host,
			map[string]string{"sys/fs/cgroup/memory/memory.limit_in_bytes": "1048576\n", "sys/fs/cgroup/memory/memory.usage_in_bytes": "4096\n"},
			[]cgroup.Level{{Limit: mib, Used: 4096}},
		},
		"v1 with memory, v2 without (hybrid)": {
			"4:memory:/a\n0::/a\n", v2Hybrid + v1Host,
			map[string]string{
				"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1048576\n", "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "4096\n",
				"sys/fs/cgroup/unified/a/memory.max": "1\n",
			},
			[]cgroup.Level{{Limit: mib, Used: 4096}},
		},
		"v2 with memory, v1 without (hybrid)": {
			"3:cpu:/a\n0::/a\n", v1Cpu + v2Hybrid,
			map[string]string{"sys/fs/cgroup/unified/a/memory.max": "1048576\n", "sys/fs/cgroup/unified/a/memory.current": "4096\n"},
			[]cgroup.Level{{Limit: mib, Used: 4096}},
		},
		"mounted at a path with a space": {
			"0::/\n", "31 24 0:27 / /sys/fs/c\\040group rw - cgroup2 none rw\n",
			map[string]string{"sys/fs/c group/memory.max": "1048576\n", "sys/fs/c group/memory.current": "4096\n"},
			[]cgroup.Level{{Limit: mib, Used: 4096}},
		},
		"more page cache than is used": { // the two are not read at one moment
			"0::/\n", v2Host,
			map[string]string{
				"sys/fs/cgroup/memory.max": "1048576\n", "sys/fs/cgroup/memory.current": "4096\n", "sys/fs/cgroup/memory.stat": "active_file 8192\n",
			},
			[]cgroup.Level{{Limit: mib}},
		},
		"nothing is mounted": {"0::/a\n", others, nil, nil},
		"no cgroups":         {"", others, nil, nil},
		"a limit that is no number": {
			"0::/\n", v2Host, map[string]string{"sys/fs/cgroup/memory.max": "plenty\n", "sys/fs/cgroup/memory.current": "4096\n"}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			put(t, root, "proc/self/cgroup", tt.cgroup)
			put(t, root, "proc/self/mountinfo", tt.mounts)
			for file, text := range tt.files {
				put(t, root, file, text)
			}
			m, err := cgroup.Open(root)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, m.Levels()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A process that is moved, and a limit that is changed, count from the next look on.
func TestLevelsChange(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	put(t, root, "proc/self/mountinfo", v2Host)
	put(t, root, "proc/self/cgroup", "0::/a\n")
	put(t, root, "sys/fs/cgroup/a/memory.max", "1048576\n")
	put(t, root, "sys/fs/cgroup/b/memory.max", "max\n")
	m, err := cgroup.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]cgroup.Level{{Limit: mib}}, m.Levels()); diff != "" {
		t.Error(diff)
	}
	put(t, root, "proc/self/cgroup", "0::/b\n")
	if levels := m.Levels(); levels != nil {
		t.Errorf("moved to where no limit is: %v", levels)
	}
	put(t, root, "sys/fs/cgroup/b/memory.max", "2097152\n")
	if diff := cmp.Diff([]cgroup.Level{{Limit: 2 * mib}}, m.Levels()); diff != "" {
		t.Error(diff)
	}
}

func TestNoProc(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if _, err := cgroup.Open(root); err == nil {
		t.Error("no error without /proc/self/cgroup")
	}
	put(t, root, "proc/self/cgroup", "0::/\n")
	if _, err := cgroup.Open(root); err == nil {
		t.Error("no error without /proc/self/mountinfo")
	}
}

// The process that runs this test has a cgroup, or none; either way it can be asked.
func TestOwn(t *testing.T) {
	t.Parallel()
	m, err := cgroup.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	for _, level := range m.Levels() {
		if level.Limit <= 0 || level.Used < 0 {
			t.Errorf("%+v", level)
		}
	}
}

func put(t *testing.T, root, file, text string) {
	t.Helper()
	path := filepath.Join(root, file)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
