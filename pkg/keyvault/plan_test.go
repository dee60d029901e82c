package keyvault_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/reads"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// The plan has the requests that Fetch sends.
func TestPlan(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	for _, name := range []string{"a", "password", "app-1"} {
		w.vault.SetSecret(name, "planted", devcloud.SecretOptions{})
	}
	w.certificate("web", devcloud.CertificateOptions{})
	_, err := w.vault.SetKey("k", devcloud.KeyOptions{})
	w.must(err)
	twice, public, key := secret("a"), secret("web"), secret("k")
	twice.Source, twice.Outputs, twice.Optional = "secrets[1]", []volume.Output{{Part: volume.PartValue, Path: "again"}}, true
	public.Kind, public.Source, public.Outputs = volume.KindPublicCertificate, "objects[2]", []volume.Output{{Part: volume.PartCert, Path: "leaf"}}
	key.Kind, key.Source, key.Optional, key.Outputs = volume.KindKey, "objects[3]", true, []volume.Output{{Part: volume.PartPublicKey, Path: "k.pem"}}
	r := w.asServicePrincipal(secret("a"), twice, protected("web", "password"), public, key, selectionAt("objects[4]", volume.Selection{Prefix: "app-"}))
	const at = "https://shop.vault.azure.net"
	type planned struct {
		URL            string
		List, Optional bool
		Objects        []string
	}
	want := []planned{
		{at + "/secrets", true, false, []string{"objects[4]"}},
		{at + "/secrets/a", false, false, []string{"secrets[0]", "secrets[1]"}},
		{at + "/secrets/web", false, false, []string{"objects[0]"}},
		{at + "/secrets/password", false, false, []string{"objects[0].pfxPassword"}},
		{at + "/certificates/web", false, false, []string{"objects[2]"}},
		{at + "/keys/k", false, true, []string{"objects[3]"}},
	}
	var got []planned
	var urls []string
	for _, p := range reads.Plan(r) {
		got = append(got, planned{p.URL, p.List, p.Optional, p.Objects})
		urls = append(urls, p.URL)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the plan (-want +got):\n%s", diff)
	}

	w.fetch(r)
	asked := []string{}
	for _, request := range w.Requests() {
		if request.Service == devcloud.ServiceVault {
			asked = append(asked, "https://"+request.Host+strings.TrimSuffix(request.Path, "/"))
		}
	}
	slices.Sort(asked)
	urls = append(urls, at+"/secrets/app-1") // that the list has
	slices.Sort(urls)
	if diff := cmp.Diff(urls, slices.Compact(asked)); diff != "" {
		t.Errorf("the plan and the requests (-plan +asked):\n%s", diff)
	}
}
