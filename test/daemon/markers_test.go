package daemon_test

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// TestNothingSecretLeaves plants values, client secrets and tokens, lets everything fail in every way at the highest
// verbosity, and searches what the daemon wrote or answered. What it must find there, and does, is the positive
// control: the pod's name, and a marker in the name of an object.
func TestNothingSecretLeaves(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			n := start(t, node.Options{Flags: []string{"-v=10", "--logging-format=" + format}})
			const (
				value        = "MARKER-value-5c1f"
				clientSecret = "MARKER~client~secret~77aa"
				control      = "marker-in-a-name-which-is-no-secret"
			)
			markers := []string{value, clientSecret, node.PrincipalSecret}
			n.Vault.SetSecret("db-password", value, devcloud.SecretOptions{})
			n.Vault.SetSecret(control, value, devcloud.SecretOptions{})
			n.Vault.SetSecret("pfx", base64.StdEncoding.EncodeToString([]byte(value)), devcloud.SecretOptions{ContentType: devcloud.PKCS12})
			n.Vault.SetSecret("pem", "-----BEGIN PRIVATE KEY-----\n"+base64.StdEncoding.EncodeToString([]byte(value))+"\n-----END PRIVATE KEY-----\n",
				devcloud.SecretOptions{ContentType: devcloud.PEMFile})

			var answers strings.Builder
			calls := 0
			try := func(names string, pairs ...string) {
				calls++
				v := workload(append([]string{"secrets", names, "timeout", "2s"}, pairs...)...)
				v.Name = "try-" + strings.Repeat("x", calls)
				err := n.Publish(t.Context(), v)
				answers.WriteString(status.Convert(err).Message() + "\n")
				if err == nil {
					unpublish(t, n, v)
				}
			}
			try("db-password")
			try("db-password;no-such")
			try("", "objects", "- {secret: db-password, encoding: hex}")
			try("", "objects", "- {certificate: pfx}\n- {certificate: pem}")
			try(control + "-missing")
			try("db-password", "objects", value+": [")
			try("db-password", "clientID", "99999999-0000-0000-0000-000000000000")

			principal := workload("secrets", "db-password", "clientID", "", "timeout", "2s")
			principal.Secret = map[string]string{"clientid": node.PrincipalID, "clientsecret": clientSecret}
			principal.Name = "principal"
			answers.WriteString(status.Convert(n.Publish(t.Context(), principal)).Message() + "\n")
			principal.Secret["clientsecret"] = node.PrincipalSecret
			publish(t, n, principal)
			principal.Secret["clientcertificate"] = clientSecret
			principal.Name = "clash"
			answers.WriteString(status.Convert(n.Publish(t.Context(), principal)).Message() + "\n")

			for _, f := range []devcloud.Fault{
				{Action: devcloud.Throttle, Service: devcloud.ServiceVault, RetryAfter: time.Second},
				{Action: devcloud.Fail, Service: devcloud.ServiceVault, Status: 500},
				{Action: devcloud.Cut, Service: devcloud.ServiceVault, After: 40},
				{Action: devcloud.Malformed, Service: devcloud.ServiceVault, Text: `{"value":"` + value + `"`},
				{Action: devcloud.Malformed, Service: devcloud.ServiceVault, Text: `{"value":{"nested":"` + value + `"}}`},
				{Action: devcloud.Challenge, Service: devcloud.ServiceVault, Text: "Bearer " + value},
				{Action: devcloud.Reset, Service: devcloud.ServiceVault},
				{Action: devcloud.Hang, Service: devcloud.ServiceVault},
				{Action: devcloud.Fail, Service: devcloud.ServiceLogin, Status: 500},
				{Action: devcloud.Malformed, Service: devcloud.ServiceLogin, Text: `{"access_token":"` + value},
			} {
				clear, err := n.Cloud.Inject(f)
				if err != nil {
					t.Fatal(err)
				}
				try("db-password")
				clear()
			}
			_, metrics, err := n.Get(t.Context(), "/metrics")
			if err != nil {
				t.Fatal(err)
			}
			everything := n.Output() + answers.String() + metrics
			for _, wanted := range []string{control, "principal-0", "keyvault_csi_build_info"} {
				if !strings.Contains(everything, wanted) {
					t.Errorf("the search is blind: %q is not in what the daemon wrote", wanted)
				}
			}
			for _, marker := range markers {
				for _, form := range []string{
					marker, url.QueryEscape(marker),
					base64.StdEncoding.EncodeToString([]byte(marker))[:12], base64.RawURLEncoding.EncodeToString([]byte(marker))[:12],
				} {
					if line := lineWith(everything, form); line != "" {
						t.Errorf("%q was written: %s", form, line)
					}
				}
			}
			// Every access token and assertion is a JWT, and every JWT begins like this.
			if token, err := n.Token(t.Context(), workload()); err != nil || !strings.HasPrefix(token, "eyJ") {
				t.Errorf("the search for tokens is blind: one begins with %.3s (%v)", token, err)
			}
			if line := lineWith(everything, "eyJ"); line != "" {
				t.Errorf("a JWT was written: %s", line)
			}
		})
	}
}

func lineWith(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return line
		}
	}
	return ""
}
