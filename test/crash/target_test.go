package crash_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// States of a target, and changes of it by others. After each the daemon holds no more than before, and publishes the same volume
// without a restart, once the cause is removed.
func TestTargets(t *testing.T) {
	t.Parallel()
	troubles := targetTroubles()
	n := node.New(t, node.Options{Flags: []string{"--mount-max-age=0"}})
	warm := newPod(n, "warm", 3, 100)
	publish(t, n, warm)
	unpublish(t, n, warm)
	before := n.AtRest(t)
	for name, trouble := range troubles {
		t.Run(name, func(t *testing.T) {
			p := newPod(n, strings.ReplaceAll(name, " ", "-"), 3, 100)
			makeFolder(t, filepath.Dir(n.Target(p.Volume)))
			trouble(t, n, p)
			publish(t, n, p)
			unpublish(t, n, p)
			n.AwaitRest(t, before)
		})
	}
	logVerdict(t, "targets: %d troubles, each answered with its code and text, nothing of others touched, nothing leaked, recovered without a restart", len(troubles))
}

func targetTroubles() map[string]func(t *testing.T, n *node.Node, p *pod) {
	return map[string]func(t *testing.T, n *node.Node, p *pod){
		"vanished": func(t *testing.T, n *node.Node, p *pod) {
			publish(t, n, p)
			unmount(t, n.Target(p.Volume))
			if err := os.Remove(n.Target(p.Volume)); err != nil {
				t.Fatal(err)
			}
		},
		"mount vanished": func(t *testing.T, n *node.Node, p *pod) {
			publish(t, n, p)
			unmount(t, n.Target(p.Volume))
		},
		"vanished with the pods folder": func(t *testing.T, n *node.Node, p *pod) {
			publish(t, n, p)
			unmount(t, n.Target(p.Volume))
			if err := os.RemoveAll(n.PodDir(p.Volume)); err != nil {
				t.Fatal(err)
			}
			if err := callUnpublish(t.Context(), n, p); err != nil {
				t.Error(err)
			}
		},
		"vanished during a rotation": vanishedDuringARotation,
		"parent removed during a publish": func(t *testing.T, n *node.Node, p *pod) {
			err := during(t, n, p, func() {
				if err := os.RemoveAll(n.PodDir(p.Volume)); err != nil {
					t.Fatal(err)
				}
			})
			fails(t, err, codes.Internal, "mount a volume at %q: make the folder of the target: no such file or directory", n.Target(p.Volume))
		},
		"no parent": func(t *testing.T, n *node.Node, p *pod) {
			if err := os.RemoveAll(n.PodDir(p.Volume)); err != nil {
				t.Fatal(err)
			}
			fails(t, bareCall(t, n, p, n.Target(p.Volume)), codes.Internal,
				"mount a volume at %q: make the folder of the target: no such file or directory", n.Target(p.Volume))
			if err := callUnpublish(t.Context(), n, p); err != nil {
				t.Error(err)
			}
		},
		"a file": func(t *testing.T, n *node.Node, p *pod) { inTheWay(t, n, p, "") },
		"a symbolic link": func(t *testing.T, n *node.Node, p *pod) {
			elsewhere := filepath.Join(n.Dir, "elsewhere")
			writeFile(t, filepath.Join(elsewhere, "file"))
			inTheWay(t, n, p, elsewhere)
			precious(t, filepath.Join(elsewhere, "file"))
			if err := os.RemoveAll(elsewhere); err != nil {
				t.Fatal(err)
			}
		},
		"below a link that leads out": belowALink,
		"somebodys files": func(t *testing.T, n *node.Node, p *pod) {
			file := filepath.Join(n.Target(p.Volume), "file")
			writeFile(t, file)
			fails(t, n.Publish(t.Context(), p.Volume), codes.Internal,
				"target path %q is no mount and not empty: its files are not this driver's; move them away", n.Target(p.Volume))
			fails(t, callUnpublish(t.Context(), n, p), codes.Internal,
				"target path %q is no mount and not empty: its files are not this driver's and are left alone; move them away", n.Target(p.Volume))
			precious(t, file)
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		},
		"somebodys tmpfs": func(t *testing.T, n *node.Node, p *pod) {
			makeFolder(t, n.Target(p.Volume))
			mountTmpfs(t, n.Target(p.Volume))
			file := filepath.Join(n.Target(p.Volume), "file")
			writeFile(t, file)
			fails(t, n.Publish(t.Context(), p.Volume), codes.Internal,
				`target path %q holds a file system of type tmpfs from "foreign", which this driver has not mounted; unmount it`, n.Target(p.Volume))
			precious(t, file)
			if err := callUnpublish(t.Context(), n, p); err != nil { // unmounts any mount, else the kubelet could never remove the pod's folder
				t.Error(err)
			}
		},
		"a bind mount": func(t *testing.T, n *node.Node, p *pod) {
			other := filepath.Join(n.Dir, "other")
			makeFolder(t, other)
			mountTmpfs(t, other)
			defer unmount(t, other)
			writeFile(t, filepath.Join(other, "below", "file"))
			makeFolder(t, n.Target(p.Volume))
			if err := unix.Mount(filepath.Join(other, "below"), n.Target(p.Volume), "", unix.MS_BIND, ""); err != nil {
				t.Fatal(err)
			}
			fails(t, n.Publish(t.Context(), p.Volume), codes.Internal,
				`target path %q holds a file system of type tmpfs from "foreign", which this driver has not mounted; unmount it`, n.Target(p.Volume))
			if err := callUnpublish(t.Context(), n, p); err != nil {
				t.Error(err)
			}
			precious(t, filepath.Join(other, "below", "file"))
		},
		"unpublish overlaps publish": func(t *testing.T, n *node.Node, p *pod) {
			err := during(t, n, p, func() {
				fails(t, callUnpublish(t.Context(), n, p), codes.Aborted, "a call for %s runs already", n.Target(p.Volume))
			})
			if err != nil {
				t.Error(err)
			}
		},
		"two volumes of one pod": twoVolumesOfOnePod,
	}
}

func unmount(t *testing.T, path string) {
	t.Helper()
	if err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW); err != nil {
		t.Errorf("unmount %s: %v", path, err)
	}
}

// bareCall publishes without making the folder above the target.
func bareCall(t *testing.T, n *node.Node, p *pod, target string) error {
	t.Helper()
	request, err := n.Request(t.Context(), p.Volume)
	if err != nil {
		t.Fatal(err)
	}
	request.TargetPath = target
	_, err = n.Driver.NodePublishVolume(t.Context(), request)
	return err
}

// during publishes, and calls fn while the vault is being asked.
func during(t *testing.T, n *node.Node, p *pod, fn func()) error {
	t.Helper()
	asked := false
	err := hanging(t.Context(), t, n, p, func(release func()) {
		defer release()
		asked = true
		fn()
	})
	if !asked {
		t.Fatalf("the publish has ended before the vault was asked: %v", err)
	}
	return err
}

// vanishedDuringARotation removes the volume while the daemon fetches the next set.
func vanishedDuringARotation(t *testing.T, n *node.Node, p *pod) {
	publish(t, n, p)
	n.Age(t, p.Volume, due)
	p.change(n)
	err := during(t, n, p, func() {
		unmount(t, n.Target(p.Volume))
		if err := os.Remove(n.Target(p.Volume)); err != nil {
			t.Fatal(err)
		}
	})
	if err != nil {
		t.Error(err)
	}
	if err := p.current(n); err != nil {
		t.Error(err)
	}
}

// inTheWay puts a symbolic link or a file at the target. Neither call changes it.
func inTheWay(t *testing.T, n *node.Node, p *pod, somewhere string) {
	t.Helper()
	target := n.Target(p.Volume)
	if somewhere == "" {
		writeFile(t, target)
	} else {
		symlink(t, somewhere, target)
	}
	fails(t, n.Publish(t.Context(), p.Volume), codes.Internal,
		"target path %q is a symbolic link or a file, not a folder: this driver makes neither; remove it", target)
	if err := callUnpublish(t.Context(), n, p); err != nil {
		t.Error(err)
	}
	if err := os.Remove(target); err != nil {
		t.Errorf("what was in the way is gone: %v", err)
	}
}

// belowALink has a symbolic link on the way to the target that leads out of the kubelet's root.
func belowALink(t *testing.T, n *node.Node, p *pod) {
	out := filepath.Join(n.Dir, "out")
	makeFolder(t, out)
	link := filepath.Join(n.Root, "link")
	symlink(t, out, link)
	target := filepath.Join(link, "mount")
	fails(t, bareCall(t, n, p, target), codes.InvalidArgument,
		"target path %q leaves the kubelet's root %q by a symbolic link", target, n.Root)
	makeFolder(t, filepath.Join(out, "mount"))
	_, err := n.Driver.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: p.ID(), TargetPath: target})
	fails(t, err, codes.InvalidArgument, "target path %q leaves the kubelet's root %q by a symbolic link", target, n.Root)
	// The folder behind the link is unchanged.
	if err := errors.Join(os.Remove(filepath.Join(out, "mount")), os.Remove(out), os.Remove(link)); err != nil {
		t.Errorf("the link was followed: %v", err)
	}
}

// twoVolumesOfOnePod are published and unpublished at the same time, and one is unpublished while the other stays.
func twoVolumesOfOnePod(t *testing.T, n *node.Node, p *pod) {
	first, second := p, newPod(n, p.Name+"2", 3, 100)
	target := func(q *pod) string { // both in the folder of one pod
		return filepath.Join(n.PodDir(first.Volume), "volumes", "kubernetes.io~csi", q.Name, "mount")
	}
	makeFolder(t, filepath.Dir(target(second)))
	both := func(call func(q *pod) error) {
		t.Helper()
		var all sync.WaitGroup
		for _, q := range []*pod{first, second} {
			all.Go(func() {
				if err := call(q); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	for range 10 {
		both(func(q *pod) error { return bareCall(t, n, q, target(q)) })
		for _, q := range []*pod{first, second} {
			if generation, err := q.readSet(filepath.Join(target(q), "..data")); err != nil || generation != q.now {
				t.Errorf("generation %d of %s: %v", generation, q.Name, err)
			}
		}
		if _, err := n.Driver.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: first.ID(), TargetPath: target(first)}); err != nil {
			t.Error(err)
		}
		if _, err := second.readSet(filepath.Join(target(second), "..data")); err != nil {
			t.Errorf("when the other volume of its pod had gone: %v", err)
		}
		both(func(q *pod) error {
			_, err := n.Driver.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: q.ID(), TargetPath: target(q)})
			return err
		})
	}
	if err := os.Remove(filepath.Dir(target(second))); err != nil {
		t.Error(err)
	}
}
