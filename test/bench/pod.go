package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/proto"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// mostObjects is how many secrets the vault holds.
const mostObjects = 50

// cache is what a publish finds in the daemon, and the flags that make it so.
type cache struct {
	name  string
	flags []string
	full  bool // everything that is asked for is in it
}

// caches are the states that publishes are measured in: of a daemon that knows --mount-max-age two, of one that keeps no
// values between calls the first alone.
func caches(ctx context.Context) ([]cache, error) {
	const flag = "-mount-max-age"
	binary, err := node.DaemonBinary(ctx)
	if err != nil {
		return nil, err
	}
	help, err := exec.CommandContext(ctx, binary, "--help").CombinedOutput() //nolint:gosec // G204: the daemon under test
	if err != nil {
		return nil, fmt.Errorf("ask %s for its flags: %w", binary, err)
	}
	if !bytes.Contains(help, []byte(flag)) {
		return []cache{{name: "no object cached"}}, nil
	}
	return []cache{{"no object cached", []string{flag + "=0s"}, false}, {"all objects cached", []string{flag + "=1h"}, true}}, nil
}

// startNode starts a daemon and a cloud whose vault holds secrets of valueSize.
func startNode(ctx context.Context, flags ...string) (*node.Node, error) {
	n, err := node.Start(ctx, node.Options{Flags: flags})
	if err != nil {
		return nil, err
	}
	setSecrets(n, mostObjects, 'a')
	if err := wakeCloud(ctx, n); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// setSecrets gives the first secrets of the vault a new value each, which begin with different letters.
func setSecrets(n *node.Node, count int, first rune) {
	for i := range count {
		n.Vault.SetSecret(secretName(i), strings.Repeat(string(first+rune(i%20)), valueSize), devcloud.SecretOptions{})
	}
}

// wakeCloud has the cloud make its keys and certificates, which it does at the first request that needs one, and which
// takes longer than all that the daemon does.
func wakeCloud(ctx context.Context, n *node.Node) error {
	if err := roundTrip(n)(ctx); err != nil {
		return err
	}
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {node.PrincipalID}, "client_secret": {node.PrincipalSecret},
		"scope": {"https://vault.azure.net/.default"},
	}
	login := "https://login.microsoftonline.com/" + node.Tenant + "/oauth2/v2.0/token"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, login, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := n.Cloud.HTTPClient().Do(request)
	if err != nil {
		return fmt.Errorf("wake the cloud: %w", err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("wake the cloud: a token: %s", response.Status)
	}
	n.Cloud.ResetCounts()
	return nil
}

func secretName(i int) string { return fmt.Sprintf("secret-%02d", i) }

// content is what a pod asks for, and how many files that makes.
type content struct {
	attributes map[string]string
	files      int
}

// secrets asks for the first n secrets of the vault in the structured way: one file for each.
func secrets(n int) content { return secretsFrom(0, n) }

func secretsFrom(first, n int) content {
	var objects strings.Builder
	for i := range n {
		fmt.Fprintf(&objects, "- secret: %s\n", secretName(first+i))
	}
	return content{map[string]string{"objects": objects.String()}, n}
}

// listed asks for the same in the predecessor's way: four folders, and one file for each in the first.
func listed(n int) content {
	names := make([]string, n)
	for i := range n {
		names[i] = secretName(i)
	}
	return content{map[string]string{"secrets": strings.Join(names, ";")}, n}
}

// certificate asks for a certificate with its chain and its key: one object, two files.
func certificate() content {
	return content{map[string]string{"objects": "- certificate: web-tls"}, 2}
}

// pod is a pod with one volume. Its calls are made ready beforehand: what signs its token and makes the folders around
// its target is the API server's work and the kubelet's, and is not measured.
type pod struct {
	driver csi.NodeClient
	wish   *csi.NodePublishVolumeRequest
	unwish *csi.NodeUnpublishVolumeRequest
}

// podName makes one of the name of a row.
func podName(row string) string { return strings.NewReplacer(" ", "-", ",", "").Replace(row) }

func newPod(ctx context.Context, n *node.Node, name string, c content) (*pod, error) {
	return newPodOf(ctx, n, web, name, c)
}

func newPodOf(ctx context.Context, n *node.Node, a account, name string, c content) (*pod, error) {
	v := kubelet.Volume{
		Name: name, Namespace: a.namespace, ServiceAccount: a.serviceAccount,
		Attributes: map[string]string{"vault": node.VaultURL, "clientID": a.clientID},
	}
	maps.Copy(v.Attributes, c.attributes)
	wish, err := n.Request(ctx, v)
	if err != nil {
		return nil, err
	}
	target := wish.GetTargetPath()
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return nil, err
	}
	return &pod{driver: n.Driver, wish: wish, unwish: &csi.NodeUnpublishVolumeRequest{VolumeId: v.ID(), TargetPath: target}}, nil
}

// newProvenPod is a pod that has another volume for as long as the node is there, and so has proven itself to Entra ID
// before its calls are measured: what a new pod pays for that is a row of its own.
func newProvenPod(ctx context.Context, n *node.Node, name string, c content) (*pod, error) {
	p, err := newPod(ctx, n, name, c)
	if err != nil {
		return nil, err
	}
	other, _ := proto.Clone(p.wish).(*csi.NodePublishVolumeRequest)
	other.VolumeId += "-other"
	other.TargetPath = filepath.Join(filepath.Dir(filepath.Dir(p.wish.GetTargetPath())), "other", "mount")
	maps.Copy(other.VolumeContext, secrets(1).attributes)
	if err := os.MkdirAll(filepath.Dir(other.GetTargetPath()), 0o750); err != nil {
		return nil, err
	}
	_, err = p.driver.NodePublishVolume(ctx, other)
	return p, err
}

// maker makes a pod: newPod or newProvenPod.
type maker func(context.Context, *node.Node, string, content) (*pod, error)

func newPods(ctx context.Context, n *node.Node, one maker, name string, count int, c content) ([]*pod, error) {
	pods := make([]*pod, 0, count)
	for i := range count {
		p, err := one(ctx, n, fmt.Sprintf("%s-%d", name, i), c)
		if err != nil {
			return nil, err
		}
		pods = append(pods, p)
	}
	return pods, nil
}

func (p *pod) publish(ctx context.Context) error {
	if _, err := p.driver.NodePublishVolume(ctx, p.wish); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

func (p *pod) unpublish(ctx context.Context) error {
	if _, err := p.driver.NodeUnpublishVolume(ctx, p.unwish); err != nil {
		return fmt.Errorf("unpublish: %w", err)
	}
	return nil
}

// requests are what the cloud was asked. A vault answers the first request without a token with the challenge, 401; it
// counts among the others.
type requests struct{ vault, challenge, login, token int }

// strangersKind is the kind of the requests by which this program itself measures a round trip; see roundTrip.
const strangersKind = "other"

func requestsOf(c *devcloud.Cloud) requests {
	return requests{
		vault: c.Count(devcloud.CountKey{Service: devcloud.ServiceVault}) -
			c.Count(devcloud.CountKey{Service: devcloud.ServiceVault, Kind: strangersKind}),
		challenge: c.Count(devcloud.CountKey{Service: devcloud.ServiceVault, Status: http.StatusUnauthorized}) -
			c.Count(devcloud.CountKey{Service: devcloud.ServiceVault, Kind: strangersKind, Status: http.StatusUnauthorized}),
		login: c.Count(devcloud.CountKey{Service: devcloud.ServiceLogin}),
		token: c.Count(devcloud.CountKey{Service: devcloud.ServiceLogin, Kind: "token"}),
	}
}

func (r requests) since(before requests) requests {
	return requests{r.vault - before.vault, r.challenge - before.challenge, r.login - before.login, r.token - before.token}
}

// per writes requests for each of n calls.
func (r requests) per(n int) []string {
	return []string{fmt.Sprintf("%.3g", float64(r.vault)/float64(n)), fmt.Sprintf("%.3g", float64(r.token)/float64(n))}
}
