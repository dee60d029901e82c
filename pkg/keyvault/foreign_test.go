package keyvault_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const html = "<html><body>Sign in to the network</body></html>"

// foreign are answers of what stands between the node and a vault: a captive portal, a proxy, a load balancer.
func foreign(service devcloud.Service) map[string]devcloud.Fault {
	faults := map[string]devcloud.Fault{}
	for _, status := range []int{200, 204, 206, 301, 302, 304, 307, 400, 401, 403, 404, 407, 410, 418, 451} {
		for name, text := range map[string]string{
			"HTML": html, "empty": " ", "JSON": `{"message":"no such route"}`, "text": "default backend - 404",
			"a number as code": `{"error":{"code":404,"message":"not found"}}`, "XML": "<Error><Code>SecretNotFound</Code></Error>",
		} {
			faults[fmt.Sprint(status, " ", name)] = devcloud.Fault{
				Service: service, Action: devcloud.Malformed, Status: status, Text: text, ContentType: "text/html",
			}
		}
	}
	faults["404 of another service"] = devcloud.Fault{
		Service: service, Action: devcloud.Malformed, Status: 404, Text: `{"error":{"code":"ResourceNotFound","message":"no such route"}}`,
	}
	return faults
}

// No answer that is not a vault's own removes a file, ends the last known value or is taken for a refusal.
func TestForeignAnswersOfAVault(t *testing.T) {
	t.Parallel()
	w := newFixture(t, func(o *keyvault.Options) { o.LastKnownGood = 24 * time.Hour })
	w.vault.SetSecret("a", "value of a", devcloud.SecretOptions{})
	_, err := w.vault.SetCertificate("c", devcloud.CertificateOptions{KeyType: devcloud.P256})
	w.must(err)
	optional, public := secret("a"), secret("c")
	optional.Optional = true
	public.Kind, public.Optional, public.Outputs = volume.KindPublicCertificate, true, []volume.Output{{Part: volume.PartCert, Path: "c"}}
	requests := map[string]volume.Request{
		"secret": w.asServicePrincipal(optional), "certificate": w.asServicePrincipal(public),
		"list": w.asServicePrincipal(selection(volume.Selection{Prefix: "a"})),
	}
	want := map[string]map[string]string{}
	for id, r := range requests {
		want[id] = w.fetch(first(id, r))
	}
	for name, fault := range foreign(devcloud.ServiceVault) {
		stop := w.inject(fault)
		for id, r := range requests {
			w.later(time.Minute) // longer than the pause after a failure
			if _, err := w.client.Fetch(t.Context(), refresh(id, r)); !errors.Is(err, volume.ErrUnavailable) {
				t.Errorf("%s, %s: %v, want that the vault is unavailable", name, id, err)
			}
			if diff := cmp.Diff(want[id], w.fetch(first("other "+id, r))); diff != "" {
				t.Errorf("%s, %s: the last known value is lost:\n%s", name, id, diff)
			}
		}
		stop()
	}
}

// The same for the services that issue tokens: they have refused nobody.
func TestForeignAnswersOfALogin(t *testing.T) {
	t.Parallel()
	for service, r := range map[devcloud.Service]func(*fixture) volume.Request{
		devcloud.ServiceLogin: func(w *fixture) volume.Request { return w.asServicePrincipal(secret("a")) },
		devcloud.ServiceIMDS:  func(*fixture) volume.Request { return managed(byClient) },
	} {
		w := newVM(t, func(o *keyvault.Options) { o.LastKnownGood = 24 * time.Hour })
		w.fetch(first("one", r(w)))
		for name, fault := range foreign(service) {
			if service == devcloud.ServiceIMDS && (fault.Status == 404 || fault.Status == 410) {
				continue // they are answers of a service that is updated, and are tried again
			}
			stop := w.inject(fault)
			w.later(25 * time.Hour) // the token has expired
			w.ResetCounts()
			if _, err := w.client.Fetch(t.Context(), refresh("one", r(w))); !errors.Is(err, volume.ErrUnavailable) {
				t.Errorf("%s, %s: %v, want that it is unavailable", service, name, err)
			}
			if w.Count(devcloud.CountKey{Service: service}) == 0 {
				t.Errorf("%s, %s: it was not asked", service, name)
			}
			stop()
		}
	}
}

// A list of which a page is incomplete is no list.
func TestTruncatedLists(t *testing.T) {
	t.Parallel()
	const item = `{"id":"https://shop.vault.azure.net/secrets/a","attributes":{"enabled":true}}`
	for name, test := range map[string]struct {
		page string
		ok   bool
	}{
		"whole":                 {`{"value":[` + item + `],"nextLink":null}`, true},
		"without members":       {`{}`, false},
		"without a link":        {`{"value":[` + item + `]}`, false},
		"without items":         {`{"nextLink":null}`, false},
		"without a list":        {`{"value":null,"nextLink":null}`, false},
		"an item that is empty": {`{"value":[` + item + `,{}],"nextLink":null}`, false},
		"an item that is null":  {`{"value":[null],"nextLink":null}`, false},
		"without attributes":    {`{"value":[{"id":"https://shop.vault.azure.net/secrets/a"}],"nextLink":null}`, true},
		"cut":                   {`{"value":[` + item + `],"next`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newFixture(t)
			w.vault.SetSecret("a", "value of a", devcloud.SecretOptions{})
			w.fetch(w.asServicePrincipal(secret("a")))
			w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Path: "/secrets", Action: devcloud.Malformed, Times: 1, Text: test.page})
			content, err := w.client.Fetch(t.Context(), w.asServicePrincipal(selection(volume.Selection{})))
			if test.ok && (err != nil || len(content.Files) != 1) || !test.ok && !errors.Is(err, volume.ErrUnavailable) {
				t.Errorf("%d files, %v", len(content.Files), err)
			}
		})
	}
}

// A vault that does not know the key of a token is asked once more, and the token stays.
func TestAKeyThatTheVaultDoesNotKnow(t *testing.T) {
	t.Parallel()
	for times, text := range map[int]string{1: "", 2: asSP + "HTTP 401 Unauthorized, AKV10046: the vault does not know the key that signed the token, which passes; it is asked again later"} {
		w := newFixture(t, func(o *keyvault.Options) { o.LastKnownGood = time.Hour })
		w.vault.SetSecret("a", "value of a", devcloud.SecretOptions{})
		w.vault.SetSecret("b", "value of b", devcloud.SecretOptions{})
		w.fetch(w.asServicePrincipal(secret("b")))
		w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.UnknownKey, Times: times})
		if text != "" {
			w.fails(w.asServicePrincipal(secret("a")), volume.ErrUnavailable, text)
		}
		if got := w.fetch(w.asServicePrincipal(secret("b")))["b"]; got != "value of b" {
			t.Errorf("%d times: %q", times, got)
		}
		if n := w.Count(devcloud.CountKey{Service: devcloud.ServiceLogin, Kind: "token"}); n != 1 {
			t.Errorf("%d times: %d logins, want one", times, n)
		}
	}
}

// While Entra ID cannot fetch the keys of the cluster's issuer, all that is kept for an outage stays.
func TestAnIssuerInAnOutage(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	w := newFixture(t, func(o *keyvault.Options) { o.LastKnownGood, o.Metrics = 24*time.Hour, registry })
	w.vault.SetSecret("a", "value of a", devcloud.SecretOptions{})
	w.fetch(first("one", w.asWorkload(secret("a"))))
	w.SetIssuerReachable(issuerURL, false)
	w.later(2 * time.Hour) // the token has expired
	for range 3 {          // first mounts of a pod that has proven itself
		if got := w.fetch(first("two", w.asWorkload(secret("a"))))["a"]; got != "value of a" {
			t.Errorf("%q", got)
		}
		w.later(time.Minute)
	}
	w.fails(refresh("one", w.asWorkload(secret("a"))), volume.ErrUnavailable, asWorkload+"Entra ID answered HTTP 400 invalid_request, AADSTS90061: "+
		`Entra ID cannot fetch the keys of the token's issuer; tried again later. Can the issuer be reached from the internet? `+
		`The token has subject "system:serviceaccount:shop:web", issuer "https://issuer.example.com/cluster", audience "api://AzureADTokenExchange"`)
	for _, line := range scrape(t, registry) { // the alert is about the codes 4xx
		if strings.HasPrefix(line, `token_requests_total{code="4`) {
			t.Errorf("%s: counted as a refusal", line)
		}
	}
}

// A certificate that is not issued yet is an error, unless it may be absent.
func TestAPendingCertificate(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	_, err := w.vault.SetCertificate("c", devcloud.CertificateOptions{Pending: true, KeyType: devcloud.P256})
	w.must(err)
	o := secret("c")
	o.Kind, o.Outputs = volume.KindPublicCertificate, []volume.Output{{Part: volume.PartCert, Path: "c"}}
	w.fails(w.asServicePrincipal(o), volume.ErrPrecondition, `secrets[0]: `+string(volume.KindPublicCertificate)+` "c" of https://shop.vault.azure.net as servicePrincipal `+
		clientID+`: the certificate is not issued yet; wait for its issuer, or mark the object optional`)
	class := w.asServicePrincipal(o)
	class.FromClass = true
	w.later(time.Minute)
	w.fails(class, volume.ErrPrecondition, `secrets[0]: `+string(volume.KindPublicCertificate)+` "c" of https://shop.vault.azure.net as servicePrincipal `+
		clientID+`: the certificate is not issued yet; wait for its issuer, or remove the object from the SecretProviderClass`)
	o.Optional = true
	w.later(time.Minute)
	if files := w.fetch(w.asServicePrincipal(o)); len(files) != 0 {
		t.Errorf("%v", files)
	}
	_, err = w.vault.SetCertificate("c", devcloud.CertificateOptions{KeyType: devcloud.P256})
	w.must(err)
	w.later(time.Minute)
	if files := w.fetch(w.asServicePrincipal(o)); len(files) != 1 {
		t.Errorf("%v", files)
	}
}
