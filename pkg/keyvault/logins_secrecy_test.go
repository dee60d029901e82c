package keyvault_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"k8s.io/klog/v2/textlogger"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// No part of a client certificate, its password, the cluster's file or the metadata service's answers is in an error
// or in the log, however malformed they are.
func TestNoSecretsOfLoginsInErrorsAndLogs(t *testing.T) {
	t.Parallel()
	var output bytes.Buffer
	logger := textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(&output), textlogger.Verbosity(10)))
	on := files{"/broken": marker, "/good": string(loginFile(t, "modern-password.pfx"))}
	w := newCluster(t, on, func(o *keyvault.Options) { o.Logger = logger })
	failed := 0
	attempt := func(r volume.Request) {
		t.Helper()
		_, err := w.client.Fetch(t.Context(), r)
		if err == nil {
			t.Error("the login works, so there is no error to search")
			return
		}
		failed++
		fmt.Fprintf(&output, "%v\n%+v\n%#v\n%+v\n", err, err, err, r)
	}
	for _, content := range []string{
		marker, `"` + marker + `"`, `{"aadClientSecret":["` + marker + `"]}`, `{"aadClientSecret":"` + marker + `"`,
		`{"aadClientId":"` + clientID + `","aadClientSecret":"` + marker + `"}`,
		`{"aadClientId":"` + clientID + `","aadClientCertPath":"/broken","aadClientCertPassword":"` + marker + `"}`,
		`{"aadClientId":"` + clientID + `","aadClientCertPath":"/good","aadClientCertPassword":"` + marker + `"}`,
	} {
		on[clusterFile] = content
		attempt(cluster())
	}
	for _, content := range []string{
		marker, "-----BEGIN PRIVATE KEY-----\n" + marker + "\n-----END PRIVATE KEY-----\n", "-----BEGIN CERTIFICATE-----\nTUFSS0VS\n-----END CERTIFICATE-----\n" + marker,
		string(loginFile(t, "aes256-password.pem")), string(loginFile(t, "modern-password.pfx")),
	} {
		attempt(byCertificate([]byte(content), marker))
	}
	w.inject(devcloud.Fault{Service: devcloud.ServiceIMDS, Action: devcloud.Malformed, Text: `{"access_token":"` + marker + `","expires_on":"` + marker + `"}`})
	attempt(managed(byNone))
	w.ClearFaults()
	w.inject(devcloud.Fault{Service: devcloud.ServiceIMDS, Action: devcloud.Malformed, Text: `{"access_token":"` + marker + `","expires_on":"4102444800"}`})
	attempt(managed(byClient)) // a vault sees it and refuses it
	if text := output.String(); strings.Contains(text, marker) || failed != 14 || !strings.Contains(text, "/metadata/identity/oauth2/token") {
		t.Errorf("after %d failures the output is:\n%s", failed, text)
	}
}
