package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/proto"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// mostObjects is the number of secrets in the vault.
const mostObjects = 50

// cache is a state of the daemon's cache, and the flags for it.
type cache struct {
	name  string
	flags []string
	full  bool // it has all requested objects
}

// caches are the states of the cache in which publishes are measured.
var caches = []cache{
	{"no object cached", []string{"--mount-max-age=0s"}, false},
	{"all objects cached", []string{"--mount-max-age=1h"}, true},
}

// startNode starts a daemon and a cloud whose vault holds secrets of valueSize.
func startNode(ctx context.Context, flags ...string) (*node.Node, error) {
	return startBuild(ctx, "", flags...)
}

// startBuild is startNode with the daemon of a file, or with this one if the name is empty.
func startBuild(ctx context.Context, binary string, flags ...string) (*node.Node, error) {
	n, err := node.Start(ctx, node.Options{Binary: binary, Flags: flags})
	if err != nil {
		return nil, err
	}
	setSecrets(n, mostObjects, 'a')
	if err := warmUpCloud(ctx, n); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// setSecrets gives the first count secrets of the vault new values, which begin with different letters.
func setSecrets(n *node.Node, count int, first rune) {
	for i := range count {
		n.Vault.SetSecret(secretName(i), strings.Repeat(string(first+rune(i%20)), valueSize), devcloud.SecretOptions{})
	}
}

// warmUpCloud makes the cloud create its keys and certificates, which takes longer than all work of the daemon.
func warmUpCloud(ctx context.Context, n *node.Node) error {
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
		return fmt.Errorf("warm the cloud up: %w", err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("warm the cloud up: a token: %s", response.Status)
	}
	n.Cloud.ResetCounts()
	return nil
}

func secretName(i int) string { return fmt.Sprintf("secret-%02d", i) }

// content is the objects of a volume, and the number of its files.
type content struct {
	attributes map[string]string
	files      int
}

// secrets is the first n secrets of the vault with the attribute objects: one file for each.
func secrets(n int) content { return secretsFrom(0, n) }

func secretsFrom(first, n int) content {
	var objects strings.Builder
	for i := range n {
		fmt.Fprintf(&objects, "- secret: %s\n", secretName(first+i))
	}
	return content{map[string]string{"objects": objects.String()}, n}
}

// listed is the same with the attribute secrets: four folders, and one file for each in the first.
func listed(n int) content {
	names := make([]string, n)
	for i := range n {
		names[i] = secretName(i)
	}
	return content{map[string]string{"secrets": strings.Join(names, ";")}, n}
}

// certificate is a certificate with its chain and its key: one object, two files.
func certificate() content {
	return content{map[string]string{"objects": "- certificate: web-tls"}, 2}
}

// pod is a pod with one volume. Its requests are prepared before the measurement: signing the token and making the folders is work of the
// API server and the kubelet.
type pod struct {
	driver           csi.NodeClient
	request          *csi.NodePublishVolumeRequest
	unpublishRequest *csi.NodeUnpublishVolumeRequest
}

// podName is a pod name for a row.
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
	request, err := n.Request(ctx, v)
	if err != nil {
		return nil, err
	}
	target := request.GetTargetPath()
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return nil, err
	}
	return &pod{driver: n.Driver, request: request, unpublishRequest: &csi.NodeUnpublishVolumeRequest{VolumeId: v.ID(), TargetPath: target}}, nil
}

// newProvenPod is a pod that has logged in to Entra ID before its calls are measured, with another volume that stays. The login of a new
// pod is a row of its own.
func newProvenPod(ctx context.Context, n *node.Node, name string, c content) (*pod, error) {
	p, err := newPod(ctx, n, name, c)
	if err != nil {
		return nil, err
	}
	other, _ := proto.Clone(p.request).(*csi.NodePublishVolumeRequest)
	other.VolumeId += "-other"
	other.TargetPath = filepath.Join(filepath.Dir(filepath.Dir(p.request.GetTargetPath())), "other", "mount")
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
	if _, err := p.driver.NodePublishVolume(ctx, p.request); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

func (p *pod) unpublish(ctx context.Context) error {
	if _, err := p.driver.NodeUnpublishVolume(ctx, p.unpublishRequest); err != nil {
		return fmt.Errorf("unpublish: %w", err)
	}
	return nil
}

// requests are counts of requests to the cloud. vault includes the first request, without a token, which a vault answers with a challenge
// (401).
type requests struct{ vault, challenge, login, token int }

// roundTripKind is the kind of the requests of roundTrip.
const roundTripKind = "other"

func requestsOf(c *devcloud.Cloud) requests {
	return requests{
		vault: c.Count(devcloud.CountKey{Service: devcloud.ServiceVault}) -
			c.Count(devcloud.CountKey{Service: devcloud.ServiceVault, Kind: roundTripKind}),
		challenge: c.Count(devcloud.CountKey{Service: devcloud.ServiceVault, Status: http.StatusUnauthorized}) -
			c.Count(devcloud.CountKey{Service: devcloud.ServiceVault, Kind: roundTripKind, Status: http.StatusUnauthorized}),
		login: c.Count(devcloud.CountKey{Service: devcloud.ServiceLogin}),
		token: c.Count(devcloud.CountKey{Service: devcloud.ServiceLogin, Kind: "token"}),
	}
}

func (r requests) since(before requests) requests {
	return requests{r.vault - before.vault, r.challenge - before.challenge, r.login - before.login, r.token - before.token}
}

// per formats the requests for each of n calls.
func (r requests) per(n int) []string {
	return []string{fmt.Sprintf("%.3g", float64(r.vault)/float64(n)), fmt.Sprintf("%.3g", float64(r.token)/float64(n))}
}
