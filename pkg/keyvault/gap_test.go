package keyvault_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// A chain without an intermediate is served and told; requireChain refuses it.
func TestGapInAChain(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	w := newFixture(t, func(o *keyvault.Options) { o.Metrics = registry })
	key, leaf, cas := parts(string(read(t, "certificate/testdata/pfx/rsa-2048.pem")))
	const begin = "-----BEGIN"
	intermediate, root, _ := strings.Cut(strings.TrimPrefix(cas, begin), begin)
	intermediate, root = begin+intermediate, begin+root
	_, foreign, _ := parts(string(read(t, "certificate/testdata/pem/secp256k1-explicit.pem")))
	const (
		gap  = " has a gap in its chain: the issuer of certificate "
		fill = " of the chain is missing; import it with its intermediate certificates"
	)
	for name, test := range map[string]struct {
		pem      string
		served   string // the gap that is told
		required string // the error of requireChain
	}{
		"whole":           {key + leaf + intermediate + root, "", ""},
		"without-root":    {key + leaf + intermediate, "", ""},
		"in-disorder":     {root + intermediate + leaf + key, "", ""},
		"twice":           {key + leaf + intermediate + leaf, "", ""},
		"self-issued":     {string(read(t, "certificate/testdata/pem/secp256k1-explicit.pem")), "", ""},
		"leaf-alone":      {key + leaf, "", gap + "1" + fill},
		"no-intermediate": {key + leaf + root, gap + "1" + fill, gap + "1" + fill},
		"another-root":    {key + leaf + intermediate + foreign, gap + "2" + fill, gap + "2" + fill},
		"not-exportable":  {leaf + root, gap + "1" + fill, gap + "1" + fill},
	} {
		t.Run(name, func(t *testing.T) {
			w.vault.SetSecret(name, test.pem, devcloud.SecretOptions{ContentType: devcloud.PEMFile, Kid: "https://shop.vault.azure.net/keys/x"})
			object := only(allParts(name), volume.PartChain)
			about := func(text string) string {
				if text == "" {
					return ""
				}
				return `objects[0]: certificate "` + name + `" of https://shop.vault.azure.net` + text
			}
			content, err := w.client.Fetch(t.Context(), first(name, w.asServicePrincipal(object)))
			w.must(err)
			if got := strings.Join(content.Gaps, ", "); got != about(test.served) {
				t.Errorf("gaps: %s\nwant: %s", got, about(test.served))
			}
			metrics := scrape(t, registry)
			if !strings.Contains(strings.Join(metrics, "\n"), `certificate_expiry_timestamp_seconds{name="`+name+`"`) {
				t.Error("its expiry has no metric") // also not of a leaf that Go cannot parse
			}
			gauge := slices.Contains(metrics, "incomplete_chains 1")
			if want := test.served != ""; gauge != want {
				t.Errorf("the metric reports a gap: %v, want %v", gauge, want)
			}
			w.client.Forget(name)

			leafAlone, err := w.client.Fetch(t.Context(), w.asServicePrincipal(only(object, volume.PartCert)))
			w.must(err)
			if len(leafAlone.Gaps) > 0 {
				t.Errorf("the leaf has a gap: %v", leafAlone.Gaps)
			}
			object.RequireChain = true
			if test.required != "" {
				w.fails(w.asServicePrincipal(object), volume.ErrPrecondition, about(test.required))
				return
			}
			if diff := cmp.Diff(1, len(w.fetch(w.asServicePrincipal(object)))); diff != "" {
				t.Error(diff)
			}
		})
	}
}
