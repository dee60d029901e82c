package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/migrate"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// fetchFrom returns a client of a dev cloud with the login of a user, not the one that the volume names.
func fetchFrom(t *testing.T, secret string) fetcher {
	t.Helper()
	dev, err := devcloud.Start(t.Context(), devcloud.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dev.Close)
	if _, err := devcloud.Seed(dev); err != nil {
		t.Fatal(err)
	}
	credential, err := azidentity.NewClientSecretCredential(devcloud.SeedTenant, devcloud.SeedServicePrincipal, secret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: policy.ClientOptions{Transport: dev.HTTPClient()}})
	if err != nil {
		t.Fatal(err)
	}
	cloud, err := azure.CloudByName("AzurePublicCloud", "", "")
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := url.Parse(dev.ProxyURL())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(dev.CA())
	client, err := keyvault.New(keyvault.Options{Cloud: cloud, Credential: credential, Proxy: http.ProxyURL(proxy), RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

const fetchManifest = `apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  volumes:
  - name: secrets
    csi:
      driver: keyvault-csi.io
      readOnly: true
      volumeAttributes: {vault: shop, identity: IDENTITY, objects: "- secret: db-password"}
`

// Whatever identity a volume names, the login of the user reads; values are shown on demand only.
func TestRenderFetch(t *testing.T) {
	t.Parallel()
	from := fetchFrom(t, devcloud.SeedClientSecret)
	const value = "correct horse battery staple"
	for _, identity := range []string{"managed", "cluster", "workload, clientID: 11111111-2222-3333-4444-555555555555"} {
		volumes, err := migrate.Volumes([]migrate.File{{Name: "-", Data: []byte(strings.Replace(fetchManifest, "IDENTITY", identity, 1))}}, volume.Defaults{})
		if err != nil || len(volumes) != 1 || len(volumes[0].Problems) > 0 {
			t.Fatalf("%v %v", volumes, err)
		}
		want := fmt.Sprintf("-:6: Pod web, volume secrets\n  0644  db-password  28 bytes  sha256:%x\n"+
			"  versions, fetched TIME\n  objects[0]  shop.vault.azure.net secret db-password  VERSION\n", sha256.Sum256([]byte(value)))
		for _, reveal := range []bool{false, true} {
			var out strings.Builder
			if err := showContent(t.Context(), volumes[0], from, reveal, &out); err != nil {
				t.Fatal(err)
			}
			if reveal {
				want += "\n  db-password\n    " + value + "\n"
			}
			got := regexp.MustCompile(`fetched 20\S+Z`).ReplaceAllString(out.String(), "fetched TIME")
			got = regexp.MustCompile(`  [0-9a-f]{32}\n`).ReplaceAllString(got, "  VERSION\n")
			if got != want {
				t.Errorf("%s: %s", identity, got)
			}
		}
	}
}

// fixed is a fetcher with a result.
type fixed volume.Content

func (f fixed) Fetch(context.Context, volume.Request) (volume.Content, error) {
	return volume.Content(f), nil
}

// What the driver would log of the content is shown.
func TestRenderFetchNotes(t *testing.T) {
	t.Parallel()
	v := migrate.Volume{File: "-", Line: 6, Object: "Pod web", Name: "secrets", Request: volume.Request{Timeout: time.Minute}}
	var out strings.Builder
	if err := showContent(t.Context(), v, fixed{Notes: []string{"a lacks its key"}, Gaps: []string{"b has a gap"}}, false, &out); err != nil {
		t.Fatal(err)
	}
	if want := "-:6: Pod web, volume secrets\n  note: a lacks its key\n  note: b has a gap\n"; out.String() != want {
		t.Errorf("got %s, want %s", out.String(), want)
	}
}

// The versions that a manifest of the volume would have are shown.
func TestRenderFetchVersions(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 27, 15, 0, 0, 0, time.FixedZone("CET", 3600))
	v := migrate.Volume{File: "-", Line: 6, Object: "Pod web", Name: "secrets", Request: volume.Request{Timeout: time.Minute}}
	const vault = "https://shop.vault.azure.net"
	content := fixed{Fetched: at, Versions: []volume.Version{
		{Source: "objects[0]", Kind: volume.KindCertificate, Vault: vault, Name: "web", Version: "1a", Expires: at.Add(time.Hour), NotAfter: at.Add(2 * time.Hour)},
		{Source: "objects[0].pfxPassword", Kind: volume.KindSecret, Vault: vault, Name: "p", Version: "2b"},
		{Source: "objects[1]", Kind: volume.KindSecret, Vault: vault, Name: "gone", Absent: true},
	}}
	var out strings.Builder
	if err := showContent(t.Context(), v, content, false, &out); err != nil {
		t.Fatal(err)
	}
	want := `-:6: Pod web, volume secrets
  versions, fetched 2026-11-27T14:00:00Z
  objects[0]              shop.vault.azure.net certificate web  1a  expires 2026-11-27T15:00:00Z  valid until 2026-11-27T16:00:00Z
  objects[0].pfxPassword  shop.vault.azure.net secret p         2b
  objects[1]              shop.vault.azure.net secret gone      absent
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

// A refusal is shown with the position of the volume, and ends with exit code 1.
func TestRenderFetchRefused(t *testing.T) {
	t.Parallel()
	from := fetchFrom(t, "wrong~secret")
	volumes, err := migrate.Volumes([]migrate.File{{Name: "pod.yaml", Data: []byte(strings.Replace(fetchManifest, "IDENTITY", "managed", 1))}}, volume.Defaults{})
	if err != nil {
		t.Fatal(err)
	}
	var out, stderr strings.Builder
	code := render(volumes, func(v migrate.Volume) error { return showContent(t.Context(), v, from, true, &out) }, &stderr)
	if code != exitError || out.Len() > 0 || !strings.HasPrefix(stderr.String(), "pod.yaml:6: Pod web, volume secrets: ") || strings.Contains(stderr.String(), "wrong~secret") {
		t.Errorf("%d %s%s", code, out.String(), stderr.String())
	}
}

func TestLegible(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"text": "text", "a\nb\n": "a\nb", "é\t": "é\t", "\x00": "base64: AA==", "\xff": "base64: /w==", "\x1b[0m": "base64: G1swbQ==", "": "",
	} {
		if got := legible([]byte(value)); got != want {
			t.Errorf("%q: %q", value, got)
		}
	}
}
