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

// Nothing of a client certificate, its password, the cluster's file or the metadata service's answers stands in an
// error or in the log, however wrong they are.
func TestNothingSecretIsSaidOfLogins(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	logger := textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(&said), textlogger.Verbosity(10)))
	on := files{"/broken": marker, "/good": string(loginFile(t, "modern-password.pfx"))}
	w := newCluster(t, on, func(o *keyvault.Options) { o.Logger = logger })
	failed := 0
	attempt := func(r volume.Request) {
		t.Helper()
		_, err := w.client.Fetch(t.Context(), r)
		if err == nil {
			t.Error("it works, and says nothing therefore")
			return
		}
		failed++
		fmt.Fprintf(&said, "%v\n%+v\n%#v\n%+v\n", err, err, err, r)
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
	if text := said.String(); strings.Contains(text, marker) || failed != 14 || !strings.Contains(text, "/metadata/identity/oauth2/token") {
		t.Errorf("after %d failures this was said:\n%s", failed, text)
	}
}
