// Package selinux_test tests the driver on a kernel with an enforcing SELinux policy, policy.cil of this folder: the label of every file,
// and what a container may read. The policy is small, and the containers are a shell with the context and the mounts that a runtime
// gives it; no kubelet, no container runtime and no distribution's policy is part of it.
//
//	make vm VM_ONLY=6.12-amd64-selinux
package selinux_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

func TestMain(m *testing.M) {
	// Only with policy.cil, which a machine that boots without a policy loads, a test has this context.
	const machine = "system_u:system_r:kernel_t:s0-s0:c0.c4"
	context, _ := os.ReadFile("/proc/self/attr/current")
	enforcing, _ := os.ReadFile("/sys/fs/selinux/enforce")
	if string(bytes.TrimRight(context, "\x00\n")) != machine || string(enforcing) != "1" {
		fmt.Println("SKIP: all tests of this package: they need SELinux with a policy of their own; make vm VM_ONLY=6.12-amd64-selinux")
		return
	}
	os.Exit(mountns.Main(node.Networked{M: m}))
}

// shared is the driver's default label, which has no category.
const shared = "system_u:object_r:container_file_t:s0"

// start starts the driver in the domain of privileged containers.
func start(t *testing.T, flags ...string) *node.Node {
	t.Helper()
	n := node.New(t, node.Options{Flags: flags, Restrict: func() error { return enter(driver) }})
	context, err := os.ReadFile(fmt.Sprintf("/proc/%d/attr/current", n.PID()))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(bytes.TrimRight(context, "\x00\n")); got != driver {
		t.Fatalf("the driver runs as %s, want %s", got, driver)
	}
	return n
}

// Each volume is published, read by a container, rotated, and read again: what holds for the first set holds for the second.
func TestContainers(t *testing.T) {
	const own = "system_u:object_r:container_file_t:s0:c1,c2"
	for name, tc := range map[string]struct {
		flags   []string
		label   string
		readers []string
		denied  map[string]string // by the context, what the kernel logs about it
	}{
		"default": {label: shared, readers: []string{container, otherContainer}},
		"categories": {
			flags: []string{"--selinux-label=" + own}, label: own, readers: []string{container},
			denied: map[string]string{otherContainer: "tcontext=" + own},
		},
		"none": {
			flags: []string{"--selinux-label="}, label: "system_u:object_r:tmpfs_t:s0",
			denied: map[string]string{container: "tcontext=system_u:object_r:tmpfs_t:s0"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t, tc.flags...)
			v := node.Volume("secrets", "objects", "- secret: password\n- {secret: password, path: app/config/copy}\n")
			roots := map[string]string{}
			for _, context := range append(slices.Collect(maps.Keys(tc.denied)), tc.readers...) {
				roots[context] = image(t, context)
			}
			for round, value := range []string{"first", "second"} {
				n.Vault.SetSecret("password", value, devcloud.SecretOptions{})
				if round > 0 {
					n.Age(t, v, time.Hour)
				}
				n.MustPublish(t, v)
				checkReadOnly(t, n, v)
				checkLabels(t, n.Target(v), tc.label)
				for _, root := range roots {
					if round == 0 {
						bind(t, n.Target(v), root)
					}
					checkLabels(t, filepath.Join(root, "secrets"), tc.label)
				}
				for _, context := range tc.readers {
					checkReads(t, context, roots[context], value)
				}
				for context, target := range tc.denied {
					checkDenied(t, context, roots[context], target)
				}
			}
		})
	}
}

func checkReads(t *testing.T, context, root, value string) {
	t.Helper()
	got := run(t, context, root, "cat /proc/self/attr/current; echo; ls /secrets; ls /secrets/app/config; cat /secrets/password /secrets/app/config/copy")
	want := context + "\napp\npassword\ncopy\n" + value + value
	if got = strings.ReplaceAll(got, "\x00", ""); got != want {
		t.Errorf("%s reads:\n%q, want\n%q", context, got, want)
	}
}

func checkDenied(t *testing.T, context, root, target string) {
	t.Helper()
	denial := denials(t)
	got := run(t, context, root, "ls /secrets; cat /secrets/password")
	want := "ls: /secrets: Permission denied\ncat: can't open '/secrets/password': Permission denied\nexit 1\n"
	if got != want {
		t.Errorf("%s reads:\n%q, want\n%q", context, got, want)
	}
	t.Log(denial("scontext="+context, target, "tclass=dir", "permissive=0"))
}

// checkReadOnly: the superblock is read-only, which bind mounts cannot change.
func checkReadOnly(t *testing.T, n *node.Node, v kubelet.Volume) {
	t.Helper()
	mounts, err := kubelet.Mounts(n.Target(v))
	if err != nil {
		t.Fatal(err)
	}
	if len(mounts) != 1 || !slices.Contains(mounts[0].Super, "ro") || !slices.Contains(mounts[0].Options, "ro") {
		t.Errorf("mounts %+v, want one, read-only in both", mounts)
	}
}

// checkLabels: every file, folder and symbolic link has the label, also those that readers do not see.
func checkLabels(t *testing.T, volume, want string) {
	t.Helper()
	kinds := map[fs.FileMode]int{}
	err := filepath.WalkDir(volume, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		label := make([]byte, 256)
		n, err := unix.Lgetxattr(path, "security.selinux", label)
		if err != nil {
			return fmt.Errorf("label of %s: %w", path, err)
		}
		if got := string(bytes.TrimRight(label[:n], "\x00")); got != want {
			t.Errorf("%s has the label %s, want %s", path, got, want)
		}
		kinds[entry.Type()]++
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if kinds[0] < 2 || kinds[fs.ModeDir] < 4 || kinds[fs.ModeSymlink] < 2 {
		t.Errorf("%v files, folders and symbolic links: not the volume that was published", kinds)
	}
}

// A kubelet passes the option for PersistentVolumes, which are none of this driver's; no other caller may choose a label either.
func TestNoCallerChoosesTheLabel(t *testing.T) {
	n := start(t)
	n.Vault.SetSecret("password", "first", devcloud.SecretOptions{})
	v := node.Volume("secrets", "secrets", "password")
	request, err := n.Request(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(request.GetTargetPath()), 0o750); err != nil {
		t.Fatal(err)
	}
	request.GetVolumeCapability().GetMount().MountFlags = []string{`context="system_u:object_r:container_file_t:s0:c1,c2"`}
	_, err = n.Driver.NodePublishVolume(t.Context(), request)
	const want = `mount flag "context=\"system_u:object_r:container_file_t:s0:c1,c2\"" is not supported; the driver sets all flags itself`
	if status.Code(err) != codes.InvalidArgument || status.Convert(err).Message() != want {
		t.Errorf("%v, want InvalidArgument: %s", err, want)
	}
	if _, err := os.Lstat(n.Target(v)); err == nil {
		t.Error("a refused publish left its target behind")
	}
}
