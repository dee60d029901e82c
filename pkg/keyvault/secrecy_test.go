package keyvault_test

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"k8s.io/klog/v2/textlogger"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const marker = "MARKERxPLANTED"

// No value, client secret, assertion or body is in an error or in the log, however the fetch fails.
func TestNoSecretsInErrorsAndLogs(t *testing.T) {
	var output bytes.Buffer
	logger := textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(&output), textlogger.Verbosity(10)))
	w := newFixture(t, func(o *keyvault.Options) { o.Logger = logger })
	w.must(w.AddIdentity(devcloud.Identity{Tenant: tenantID, ClientID: clientID, Secrets: []devcloud.ClientSecret{{Value: marker + "client"}}}))
	w.vault.SetSecret("a", marker, devcloud.SecretOptions{ContentType: devcloud.PKCS12})
	w.vault.SetSecret("pem", "-----BEGIN PRIVATE KEY-----\n"+marker+"\n-----END PRIVATE KEY-----\n", devcloud.SecretOptions{ContentType: devcloud.PEMFile})
	good := w.asServicePrincipal(secret("a"))
	good.Identity.ClientSecret = volume.NewSecret([]byte(marker + "client"))
	assertion := w.asWorkload(secret("a"))
	assertion.Identity.Assertion = volume.NewSecret([]byte(marker + "." + marker + "." + marker))
	hex := good
	object := secret("a")
	object.Encoding = volume.Hex
	hex.Objects = []volume.Object{object}
	certificate, pem := good, good
	certificate.Objects, pem.Objects = []volume.Object{allParts("a")}, []volume.Object{allParts("pem")}
	wrong := w.asServicePrincipal(secret("a"))
	wrong.Identity.ClientSecret = volume.NewSecret([]byte(marker))

	failed := 0
	attempt := func(r volume.Request) {
		t.Helper()
		_, err := w.client.Fetch(t.Context(), r)
		if err != nil {
			failed++
			fmt.Fprintf(&output, "%v\n%+v\n%#v\n", err, err, err)
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
		}
		fmt.Fprintf(&output, "%+v %#v\n", r, r.Identity)
	}
	for _, r := range []volume.Request{good, assertion, hex, certificate, pem, wrong} {
		attempt(r)
	}
	for _, service := range []devcloud.Service{devcloud.ServiceVault, devcloud.ServiceLogin} {
		for _, action := range []devcloud.Action{devcloud.Fail, devcloud.Cut, devcloud.Malformed, devcloud.Challenge} {
			w.client = w.newClient(func(o *keyvault.Options) { o.Logger = logger })
			stop := w.inject(devcloud.Fault{Service: service, Action: action, Text: marker, After: 40, Status: 418})
			attempt(good)
			stop()
		}
	}
	if failed < 10 {
		t.Errorf("only %d failures: this test tests nothing", failed)
	}
	if !strings.Contains(output.String(), "answer") {
		t.Error("nothing was logged: this test tests nothing")
	}
	if i := strings.Index(output.String(), marker); i >= 0 {
		t.Errorf("the output has a secret: %s", output.String()[max(0, i-200):i+len(marker)])
	}
	fmt.Fprint(&output, marker) // the search finds what is there
	if !strings.Contains(output.String(), marker) {
		t.Error("the search finds nothing at all")
	}
}

// No goroutine runs between fetches, neither after a success nor after a failure.
func TestNoGoroutineBetweenFetches(t *testing.T) {
	before := runtime.NumGoroutine()
	w := newFixture(t)
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	w.fetch(w.asServicePrincipal(secret("a")))
	_, err := w.vault.SetCertificate("tls", devcloud.CertificateOptions{})
	w.must(err)
	w.fetch(w.asWorkload(secret("a"), allParts("tls")))
	w.Close()
	if _, err := w.client.Fetch(t.Context(), w.asServicePrincipal(secret("a"))); err == nil {
		t.Error("fetched from a cloud that is closed")
	}
	w.client.CloseIdleConnections()
	for deadline := time.Now().Add(suite.Patience); runtime.NumGoroutine() > before && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	if now := runtime.NumGoroutine(); now > before {
		stacks := make([]byte, 1<<16)
		t.Errorf("%d goroutines, %d before:\n%s", now, before, stacks[:runtime.Stack(stacks, true)])
	}
}
