package e2e

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
)

// testRestrictedPod is the main case: uid 1000, read-only root, no capability, in a namespace with the restricted Pod Security Standard.
func testRestrictedPod(t *testing.T, e *env) {
	v := e.newVault(t)
	binary := "\x00\x01\xfe\xff no text\n\n"
	text := "correct horse\nbattery ståple \n"
	v.set(t, "text", text)
	v.admin(t, "/secrets", object{
		"vault": v.name, "name": "binary", "value": base64.StdEncoding.EncodeToString([]byte(binary)),
	})
	v.admin(t, "/certificates", object{"vault": v.name, "name": "web-tls", "commonName": "www.shop.example", "intermediates": 1})
	p := e.run(t, "restricted", volume{attributes: v.objects(`
- secret: text
- secret: binary
  path: deep/er/binary
  encoding: base64
- certificate: web-tls
`)})

	files, err := p.files(t.Context(), mountPath)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"text": text, "deep/er/binary": binary} {
		if got := string(files[name].Data); got != want {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}
	pair, err := tls.X509KeyPair(files["web-tls.crt"].Data, files["web-tls.key"].Data)
	if err != nil {
		t.Fatal(err)
	}
	if name := pair.Leaf.Subject.CommonName; name != "www.shop.example" || len(pair.Certificate) != 3 {
		t.Errorf("the certificate is of %q, in a chain of %d; want www.shop.example and 3", name, len(pair.Certificate))
	}
	for name, want := range map[string]string{"text": "-rw-r--r--", "deep": "drwxr-xr-x", "web-tls.key": "-rw-r--r--"} {
		if got := files[name]; got.Mode != want || got.UID != 0 || got.GID != 0 {
			t.Errorf("%s is %s of %d:%d, want %s of 0:0", name, got.Mode, got.UID, got.GID, want)
		}
	}
	checkMounts(t, p)
	checkUnmounted(t, p)
}

// checkMounts checks the volume's mount in the container and on the node. In the container, runtimes keep only the requested flags.
func checkMounts(t *testing.T, p *pod) {
	t.Helper()
	checkOptions(t, p.inside(t), "ro")
	onNode, err := p.mounts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	checkOptions(t, onNode, "ro", "nosuid", "nodev", "noexec")

	var denied string
	if err := p.ask(t.Context(), "/write?dir="+url.QueryEscape(mountPath), &denied); err != nil {
		t.Fatal(err)
	}
	if want := "open /secrets/mine: read-only file system"; denied != want {
		t.Errorf("writing into the volume says %q, want %q", denied, want)
	}
}

// checkOptions checks for one mount with the options, of a tmpfs that is read-only itself and has noswap (since Linux 6.3).
func checkOptions(t *testing.T, mounts []mountinfo.Info, wanted ...string) {
	t.Helper()
	if len(mounts) != 1 || mounts[0].FSType != "tmpfs" {
		t.Errorf("there are the mounts %+v, want one tmpfs", mounts)
		return
	}
	for _, has := range []struct {
		what, options string
		wanted        []string
	}{{"mount", mounts[0].Options, wanted}, {"file system", mounts[0].VFSOptions, []string{"ro", "noswap"}}} {
		options := strings.Split(has.options, ",")
		for _, want := range has.wanted {
			if !slices.Contains(options, want) {
				t.Errorf("the %s is not %s: %+v", has.what, want, mounts[0])
			}
		}
	}
}

// checkUnmounted deletes the pod and checks that nothing is left.
func checkUnmounted(t *testing.T, p *pod) {
	t.Helper()
	p.delete(t)
	eventually(t, "clean node", p.leftOf)
}

// testFSGroup: files that only the group may read, in a container without root.
func testFSGroup(t *testing.T, e *env) {
	v := e.newVault(t)
	v.set(t, "password", "for the group")
	p := e.run(t, "fsgroup", volume{fsGroup: 4242, attributes: v.objects("[{secret: password, path: app/password}]")})
	files, err := p.files(t.Context(), mountPath)
	if err != nil {
		t.Fatal(err)
	}
	got := files["app/password"]
	if string(got.Data) != "for the group" || got.Mode != "-rw-r-----" || got.UID != 0 || got.GID != 4242 {
		t.Errorf("app/password is %s of %d:%d and holds %q", got.Mode, got.UID, got.GID, got.Data)
	}
	// Go prints the setgid bit first; ls prints drwxr-s---.
	if got := files["app"]; got.Mode != "dgrwxr-x---" || got.GID != 4242 {
		t.Errorf("app is %s of group %d, want dgrwxr-x--- of 4242", got.Mode, got.GID)
	}
}

// testSubPath: subPath has the documented limit, and no other.
func testSubPath(t *testing.T, e *env) {
	v := e.newVault(t)
	v.set(t, "password", "first")
	p := e.run(t, "subpath", volume{
		attributes: v.objects("[{secret: password}, {secret: password, path: app/password}]"),
		subPaths:   map[string]string{"/mnt/file": "password", "/mnt/app": "app"},
	})
	same := p.sameProcess(t)
	for _, value := range []string{"second", "third"} {
		v.set(t, "password", value)
		p.age(t, time.Minute)
		p.awaitContent(t, mountPath+"/password", value)
		p.mustHold(t, mountPath+"/app/password", value)
		p.mustHold(t, "/mnt/app/password", "first")
		p.mustHold(t, "/mnt/file", "first")
	}
	same()
	checkUnmounted(t, p)
}

// testRotation has a container that reads a certificate and its key as fast as it can, while they change.
func testRotation(t *testing.T, e *env) {
	v := e.newVault(t)
	v.admin(t, "/certificates", object{"vault": v.name, "name": "web-tls", "keyType": "P-256"})
	p := e.run(t, "rotation", volume{
		attributes: v.objects("- certificate: web-tls"),
		args:       []string{"-pair", mountPath + "/web-tls.crt," + mountPath + "/web-tls.key"},
	})
	same := p.sameProcess(t)
	var pairs struct {
		Read, Torn, Versions int
		Problem              string
	}
	for version := 2; version <= 4; version++ {
		v.admin(t, "/rotate", object{"vault": v.name, "kind": "certificates", "name": "web-tls"})
		if version < 4 { // the last rotation is after the real interval of 30 s
			p.age(t, time.Minute)
		}
		eventually(t, "rotation", func(ctx context.Context) error {
			if err := p.ask(ctx, "/pairs", &pairs); err != nil {
				return err
			}
			if pairs.Versions < version {
				return fmt.Errorf("the reader has seen %d versions, want %d", pairs.Versions, version)
			}
			return nil
		})
	}
	if pairs.Torn != 0 || pairs.Read < 1000 {
		t.Errorf("of %d times that the pair was read, it did not match %d times: %s", pairs.Read, pairs.Torn, pairs.Problem)
	}
	same()
}

// testVaultDown tests an outage: first without events, later with the reason in an event, and again without after the outage.
func testVaultDown(t *testing.T, e *env) {
	v := e.newVault(t)
	v.set(t, "password", "old")
	p := e.run(t, "down", volume{attributes: v.objects("- secret: password")})
	same := p.sameProcess(t)
	e.admin(t, "/faults", object{"action": "fail", "host": v.name, "status": 503})
	t.Cleanup(func() { _ = e.adminCall(context.Background(), "DELETE", "/faults", nil, nil) })

	// Younger than five minutes: the vault gets requests, the kubelet gets OK.
	p.age(t, time.Minute)
	eventually(t, "a fetch that fails", func(context.Context) error {
		if v.requests(t, 503) == 0 {
			return errors.New("the vault has not been asked")
		}
		return nil
	})
	if events := p.warnings(t.Context()); len(events) != 0 {
		t.Errorf("a pod whose files are a minute old has the events %v", events)
	}

	// Older: an event has the reason; pod, mount and files stay.
	p.age(t, 10*time.Minute)
	message := p.awaitEvent(t, "code = Unavailable")
	if want := v.url() + " as workload " + v.clientID; !strings.Contains(message, want) || strings.Contains(message, "\n") {
		t.Errorf("the event is %q, want one line with %q", message, want)
	}
	same()
	p.mustHold(t, mountPath+"/password", "old")
	if mounts, err := p.mounts(t.Context()); err != nil || len(mounts) != 1 {
		t.Errorf("the node has the mounts %+v (%v), want one", mounts, err)
	}

	v.set(t, "password", "new")
	if err := e.adminCall(t.Context(), "DELETE", "/faults", nil, nil); err != nil {
		t.Fatal(err)
	}
	p.awaitContent(t, mountPath+"/password", "new")
	same()
	// The volume is fresh again: the kubelet's next calls cause no event.
	before := p.warnings(t.Context())
	asked := v.requests(t, 200)
	p.age(t, time.Minute)
	eventually(t, "the next fetch", func(context.Context) error {
		if v.requests(t, 200) == asked {
			return errors.New("the vault has not been asked")
		}
		return nil
	})
	if after := p.warnings(t.Context()); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("there are new events after the vault's recovery: %v, before: %v", after, before)
	}
}

// testStats: the volume in `kubectl get --raw /api/v1/nodes/NODE/proxy/stats/summary` and the kubelet's metrics.
func testStats(t *testing.T, e *env) {
	v := e.newVault(t)
	v.set(t, "password", strings.Repeat("x", 5000)) // two pages
	p := e.run(t, "stats", volume{attributes: v.objects("- secret: password")})
	eventually(t, "stats", func(ctx context.Context) error {
		var summary struct {
			Pods []struct {
				PodRef struct{ UID string }
				Volume []struct {
					Name                                 string
					UsedBytes, CapacityBytes, InodesUsed int64
				}
			}
		}
		if err := p.get(ctx, "/api/v1/nodes/"+p.node+"/proxy/stats/summary", &summary); err != nil {
			return err
		}
		for _, pod := range summary.Pods {
			if pod.PodRef.UID != p.uid {
				continue
			}
			for _, volume := range pod.Volume {
				if volume.Name == "secrets" && volume.UsedBytes >= 8192 && volume.CapacityBytes > volume.UsedBytes && volume.InodesUsed > 0 {
					return nil
				}
			}
			return fmt.Errorf("the pod has the volumes %+v", pod.Volume)
		}
		return errors.New("the pod is not in the summary")
	})
}
