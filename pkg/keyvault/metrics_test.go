package keyvault_test

import (
	"fmt"
	"io"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// scrape returns the counters and gauges as Prometheus reads them, without zeros, the histogram's buckets and sums,
// and the bytes of the cache.
func scrape(t *testing.T, registry *prometheus.Registry) []string {
	t.Helper()
	response := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(response, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	page, err := io.ReadAll(response.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	unwanted := regexp.MustCompile(`^#|^$| 0$|_bucket|_sum|cache_bytes`)
	lines := slices.DeleteFunc(strings.Split(string(page), "\n"), unwanted.MatchString)
	for i, line := range lines {
		lines[i] = strings.TrimPrefix(line, "keyvault_csi_")
	}
	return lines
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	w := newFixture(t, maxAge(10*time.Second), func(o *keyvault.Options) {
		o.Metrics, o.LastKnownGood = registry, time.Hour
	})
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	made, err := w.vault.SetCertificate("TLS", devcloud.CertificateOptions{})
	w.must(err)
	_, err = w.vault.SetKey("sign", devcloud.KeyOptions{})
	w.must(err)
	public, key := only(allParts("TLS"), volume.PartLeaf76), only(allParts("sign"), volume.PartPublicKey)
	public.Kind, key.Kind = volume.KindPublicCertificate, volume.KindKey

	// A vault that has not answered 200 yet is "other".
	absent := secret("absent")
	_, err = w.client.Fetch(t.Context(), first("none", w.asServicePrincipal(absent)))
	if err == nil {
		t.Fatal("there is an absent secret")
	}
	want := []string{
		`cache_requests_total{result="miss"} 1`,
		`token_requests_total{code="200",identity="servicePrincipal"} 1`,
		`vault_request_seconds_count{vault="other"} 2`,
		`vault_requests_total{code="401",kind="challenge",vault="other"} 1`,
		`vault_requests_total{code="404",kind="secret",vault="other"} 1`,
	}
	if diff := cmp.Diff(want, scrape(t, registry)); diff != "" {
		t.Errorf("after a failure (-want +got):\n%s", diff)
	}

	all := w.asServicePrincipal(secret("a"), allParts("TLS"), public, key, selection(volume.Selection{Prefix: "nothing"}))
	w.fetch(first("one", all))
	w.fetch(first("two", all))
	w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Reset})
	w.later(time.Minute)
	w.fetch(first("three", w.asServicePrincipal(secret("a"))))
	const vault = `vault="https://shop.vault.azure.net"`
	counted := []string{
		`cache_requests_total{result="hit"} 5`,
		`cache_requests_total{result="miss"} 6`,
		`cache_requests_total{result="stale"} 1`,
		fmt.Sprintf(`certificate_expiry_timestamp_seconds{name="tls",%s} %v`, vault, float64(made.Leaf.NotAfter.Unix())),
		"certificates 1",
		`token_requests_total{code="200",identity="servicePrincipal"} 1`,
		`vault_request_seconds_count{` + vault + `} 8`,
		`vault_request_seconds_count{vault="other"} 2`,
		`vault_requests_total{code="200",kind="certificate",` + vault + `} 1`,
		`vault_requests_total{code="200",kind="key",` + vault + `} 1`,
		`vault_requests_total{code="200",kind="list",` + vault + `} 1`,
		`vault_requests_total{code="200",kind="secret",` + vault + `} 2`,
		`vault_requests_total{code="401",kind="challenge",vault="other"} 1`,
		`vault_requests_total{code="404",kind="secret",vault="other"} 1`,
		`vault_requests_total{code="none",kind="secret",` + vault + `} 3`,
	}
	if diff := cmp.Diff(counted, scrape(t, registry)); diff != "" {
		t.Errorf("after three mounts (-want +got):\n%s", diff)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}

	w.client.Forget("one")
	w.client.Forget("two")
	if diff := cmp.Diff(slices.Delete(slices.Clone(counted), 3, 5), scrape(t, registry)); diff != "" {
		t.Errorf("without the volumes that hold the certificate (-want +got):\n%s", diff)
	}
	w.client.Forget("three")
	for _, line := range scrape(t, registry) {
		if strings.Contains(line, "shop") {
			t.Errorf("nobody uses the vault any more: %s", line)
		}
	}
}

// If there are many certificates, the 200 that end first have a series, whatever their names, and all are counted.
func TestSoonestCertificates(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	w := newFixture(t, func(o *keyvault.Options) { o.Metrics = registry })
	const all, shown = 205, 200
	end := time.Now().Add(24 * time.Hour).Truncate(time.Second)
	var want []string
	var objects []volume.Object
	for i := range all {
		name := fmt.Sprintf("tls-%03d", all-i) // the names are in reverse order
		until := end.Add(time.Duration(i) * time.Hour)
		_, err := w.vault.SetCertificate(name, devcloud.CertificateOptions{KeyType: devcloud.P256, SelfSigned: true, NotAfter: until})
		w.must(err)
		object := only(allParts(name), volume.PartLeaf76)
		object.Kind, object.Outputs[0].Path = volume.KindPublicCertificate, name
		objects = append(objects, object)
		if i < shown {
			want = append(want, fmt.Sprintf(`certificate_expiry_timestamp_seconds{name=%q,vault="https://shop.vault.azure.net"} %v`, name, float64(until.Unix())))
		}
	}
	want = append(want, fmt.Sprintf("certificates %d", all))
	slices.Sort(want)
	w.fetch(first("all", w.asServicePrincipal(objects...)))
	w.fetch(first("some", w.asServicePrincipal(objects[:10]...)))
	about := func() (lines []string) {
		for _, line := range scrape(t, registry) {
			if strings.HasPrefix(line, "certificate") {
				lines = append(lines, line)
			}
		}
		slices.Sort(lines)
		return lines
	}
	if diff := cmp.Diff(want, about()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	w.client.Forget("all")
	w.client.Forget("some")
	if left := about(); len(left) > 0 {
		t.Errorf("nobody holds %q", left)
	}
}
