package login

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// For any content of the cluster's file, the result is a complete login, or one line that says why not and holds no
// secret of the file.
func FuzzClusterFile(f *testing.F) {
	const id = "11111111-2222-3333-4444-555555555555"
	for _, text := range []string{
		`{"cloud":"AzurePublicCloud","tenantId":"` + id + `","aadClientId":"` + id + `","aadClientSecret":"planted~secret"}`,
		`{"aadClientId":"msi","aadClientSecret":"msi","useManagedIdentityExtension":true,"userAssignedIdentityID":"` + id + `"}`,
		`{"useManagedIdentityExtension":true,"userAssignedIdentityID":"/subscriptions/s/resourceGroups/g/x"}`,
		`{"aadClientId":"` + id + `","aadClientCertPath":"/etc/sp.pfx","aadClientCertPassword":"planted-password"}`,
		`{"aadClientId":"` + id + `","aadClientCertPath":"/etc/\u001b[31m\nmissing"}`,
		`{"aadClientId":"` + id + `","aadClientCertPath":"/empty"}`,
		`{"aadClientSecret":["planted"]}`, `{"AADCLIENTSECRET":"planted","aadClientId":"\u0000"}`, `{"cloud":"\u2028\u202e"}`,
		"\ufeff{\"cloud\":\"AzureCloud\"}", `{"tenantId":"..","aadClientId":"` + id + `"}`, `{"useFederatedWorkloadIdentityExtension":true}`,
		`{"userAssignedIdentityID":"x\u0085y/subscriptions/","useManagedIdentityExtension":true}`,
		`{"useManagedIdentityExtension":"planted"}`, `null`, `[]`, `"planted"`, ``, strings.Repeat(`[`, 20000), strings.Repeat(`{"cloud":`, 9000),
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		readFile := func(name string) ([]byte, error) {
			switch name {
			case "/etc/azure.json":
				return content, nil
			case "/etc/sp.pfx":
				return []byte("planted-certificate"), nil
			case "/empty":
				return nil, nil
			}
			return nil, errors.New("no such file or directory")
		}
		l := newLogins(t, Options{ClusterFile: "/etc/azure.json", ReadFile: readFile})
		var identity volume.Identity
		var err error
		took := suite.CPUTime(func() { identity, err = l.cluster(volume.Identity{Kind: volume.Cluster}) })
		if took > time.Minute {
			t.Errorf("%d bytes took %v", len(content), took)
		}
		if err != nil {
			checkClusterError(t, err, content)
			return
		}
		checkClusterIdentity(t, identity)
	})
}

func checkClusterError(t *testing.T, err error, content []byte) {
	t.Helper()
	text := err.Error()
	if !errors.Is(err, volume.ErrPrecondition) {
		t.Errorf("%q is not a failed precondition", text)
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) || strings.ContainsAny(text, "\u2028\u2029") || len(text) > 4<<10 {
		t.Errorf("%q is not one line of text", text)
	}
	file, _ := parseClusterFile(content)
	for _, secret := range []string{file.ClientSecret, file.CertificatePassword} {
		public := strings.Join([]string{file.Cloud, file.TenantID, file.ClientID, file.CertificatePath, file.UserAssignedIdentity}, "\n")
		const long = 12
		if len(secret) >= long && strings.Contains(text, secret) && !strings.Contains(public, secret) && strings.ContainsAny(secret, "0123456789~!_") {
			t.Errorf("%q gives away %q", text, secret)
		}
	}
}

func checkClusterIdentity(t *testing.T, id volume.Identity) {
	t.Helper()
	if id.TenantID != "" && !guid.MatchString(id.TenantID) && !domain.MatchString(id.TenantID) {
		t.Errorf("tenant %q", id.TenantID)
	}
	if id.ClientID != "" && !guid.MatchString(id.ClientID) {
		t.Errorf("client id %q", id.ClientID)
	}
	if strings.ContainsFunc(id.ResourceID, unicode.IsControl) || !utf8.ValidString(id.ResourceID) {
		t.Errorf("resource id %q", id.ResourceID)
	}
	logins := 0
	for _, login := range []bool{len(id.ClientSecret.Reveal()) > 0, len(id.ClientCertificate.Reveal()) > 0} {
		if login {
			logins++
		}
	}
	if logins > 1 || logins == 1 && id.ClientID == "" || id.ClientID != "" && id.ResourceID != "" {
		t.Errorf("two logins, or half of one: %d, %q, %q", logins, id.ClientID, id.ResourceID)
	}
	if strings.Contains(id.TenantID+id.ClientID, "/") {
		t.Errorf("a path: %q, %q", id.TenantID, id.ClientID)
	}
}
