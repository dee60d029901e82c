package keyvault_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

func TestValues(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	tagged := map[string]string{"file-encoding": "base64"}
	for _, test := range []struct {
		name, value string
		tags        map[string]string
		encoding    volume.Encoding
		honour      bool
		want        string
	}{
		{"text", "a\r\nb\x00ü\n", nil, volume.UTF8, false, "a\r\nb\x00ü\n"},
		{"empty", "", nil, volume.UTF8, false, ""},
		{"base64", "AAEC\r\n /w==\n", nil, volume.Base64, false, "\x00\x01\x02\xff"},
		{"hex", "0001 02FF\n", nil, volume.Hex, false, "\x00\x01\x02\xff"},
		{"tag", "AAEC", tagged, volume.UTF8, true, "\x00\x01\x02"},
		{"tag of no interest", "AAEC", tagged, volume.UTF8, false, "AAEC"},
		{"tag in capitals", "AAEC", map[string]string{"file-encoding": "BASE64"}, volume.UTF8, true, "AAEC"},
	} {
		w.vault.SetSecret("a", test.value, devcloud.SecretOptions{Tags: test.tags})
		object := secret("a")
		object.Encoding, object.HonourEncodingTag = test.encoding, test.honour
		if got := w.fetch(w.asServicePrincipal(object))["a"]; got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
	for _, bad := range []string{"AAE", "AAEC!", "äöü="} {
		w.vault.SetSecret("a", bad, devcloud.SecretOptions{})
		object := secret("a")
		object.Encoding = volume.Base64
		w.fails(w.asServicePrincipal(object), volume.ErrPrecondition,
			`secrets[0]: secret "a" of https://shop.vault.azure.net is not base64; correct the value or the encoding`)
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	old := w.vault.SetSecret("a", "old", devcloud.SecretOptions{})
	w.vault.SetSecret("a", "new", devcloud.SecretOptions{})
	pinned := secret("a")
	pinned.Version, pinned.Outputs = old, []volume.Output{{Part: volume.PartValue, Path: "pinned", Mode: 0o440}}
	content, err := w.client.Fetch(t.Context(), w.asServicePrincipal(secret("a"), pinned))
	w.must(err)
	if got := string(content.Files[0].Data.Reveal()) + string(content.Files[1].Data.Reveal()); got != "newold" {
		t.Errorf("got %q", got)
	}
	if content.Files[1].Mode != 0o440 || content.Files[0].Mode != 0 {
		t.Error("the modes are not those of the outputs")
	}
}

// A secret in the predecessor's syntax is split only if it backs a certificate.
func TestSplit(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	object := secret("tls")
	object.HonourEncodingTag = true
	object.Outputs = []volume.Output{{Part: volume.PartValue, Path: "secrets/tls"}}
	object.Split = []volume.Output{{Part: volume.PartKey, Path: "keys/tls"}, {Part: volume.PartChain, Path: "certs/tls"}}
	w.vault.SetSecret("tls", "not a certificate", devcloud.SecretOptions{ContentType: devcloud.PKCS12})
	if diff := cmp.Diff(map[string]string{"secrets/tls": "not a certificate"}, w.fetch(w.asServicePrincipal(object))); diff != "" {
		t.Error(diff)
	}
	w.must(w.vault.Delete(devcloud.Secrets, "tls"))
	made, err := w.vault.SetCertificate("tls", devcloud.CertificateOptions{KeyType: devcloud.P256, Intermediates: 1})
	w.must(err)
	object.NeedsCertificate = true
	der, err := x509.MarshalPKCS8PrivateKey(made.Key)
	w.must(err)
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Leaf.Raw})
	for _, ca := range made.CAs {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw})...)
	}
	want := map[string]string{
		"secrets/tls": made.Value,
		"keys/tls":    string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"certs/tls":   string(chain),
	}
	if diff := cmp.Diff(want, w.fetch(w.asServicePrincipal(object))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPublicCertificate(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	made, err := w.vault.SetCertificate("tls", devcloud.CertificateOptions{})
	w.must(err)
	object := only(allParts("tls"), volume.PartLeaf76)
	object.Kind = volume.KindPublicCertificate
	got := w.fetch(w.asServicePrincipal(object))["leaf76"]
	block, rest := pem.Decode([]byte(got))
	if block == nil || len(rest) > 0 || !bytes.Equal(block.Bytes, made.Leaf.Raw) {
		t.Errorf("not the leaf:\n%s", got)
	}
	if lines := strings.Split(got, "\n"); len(lines[1]) != 76 || lines[len(lines)-1] != "" {
		t.Errorf("not of 76 columns:\n%s", got)
	}
	w.vault.Deny(clientID, devcloud.SecretsGet, devcloud.SecretsList)
	w.fetch(w.asServicePrincipal(object))
	object.Name, object.Optional = "absent", true
	if files := w.fetch(w.asServicePrincipal(object)); len(files) > 0 {
		t.Errorf("an absent certificate: %v", files)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	object := only(allParts("sign"), volume.PartPublicKey)
	object.Kind = volume.KindKey
	for _, kind := range []devcloud.KeyType{devcloud.RSA2048, devcloud.P256, devcloud.P384, devcloud.P521} {
		made, err := w.vault.SetCertificate("sign", devcloud.CertificateOptions{KeyType: kind})
		w.must(err)
		der, err := x509.MarshalPKIXPublicKey(made.Key.Public())
		w.must(err)
		want := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
		if got := w.fetch(w.asServicePrincipal(object))["publicKey"]; got != want {
			t.Errorf("%s: %s", kind, cmp.Diff(want, got))
		}
	}
	// The P-256K key of a fixture: what OpenSSL writes for its certificate's public key.
	point, err := base64.StdEncoding.DecodeString(secp256k1Point)
	w.must(err)
	w.must(w.vault.Delete(devcloud.Certificates, "sign"))
	_, err = w.vault.SetKey("p256k", devcloud.KeyOptions{JWK: &azkeys.JSONWebKey{
		Kty: to.Ptr(azkeys.KeyTypeEC), Crv: to.Ptr(azkeys.CurveNameP256K), X: point[1:33], Y: point[33:],
	}})
	w.must(err)
	object.Name = "p256k"
	if got := w.fetch(w.asServicePrincipal(object))["publicKey"]; got != secp256k1PEM {
		t.Error(cmp.Diff(secp256k1PEM, got))
	}
	_, err = w.vault.SetKey("aes", devcloud.KeyOptions{JWK: &azkeys.JSONWebKey{Kty: to.Ptr(azkeys.KeyTypeOctHSM)}})
	w.must(err)
	object.Name = "aes"
	w.fails(w.asServicePrincipal(object), volume.ErrPrecondition,
		`objects[0]: key "aes" of https://shop.vault.azure.net is a symmetric key, which has no public half`)
}

func selection(s volume.Selection) volume.Object {
	s.Each = secret
	return volume.Object{
		Kind: volume.KindSelection, Source: "objects[0]", Vault: "https://shop.vault.azure.net", Selection: &s,
	}
}

func TestSelections(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	all := map[string]string{}
	for i := range 60 { // three pages
		name := fmt.Sprintf("app-%02d", i)
		w.vault.SetSecret(name, "value of "+name, devcloud.SecretOptions{Tags: map[string]string{"env": "prod", "n": fmt.Sprint(i % 2)}})
		all[name] = "value of " + name
	}
	w.vault.SetSecret("Other", "x", devcloud.SecretOptions{})
	w.vault.SetSecret("off", "x", devcloud.SecretOptions{Disabled: true})
	odd := map[string]string{}
	for name, value := range all {
		if name[len(name)-1]%2 == 1 {
			odd[name] = value
		}
	}
	if diff := cmp.Diff(all, w.fetch(w.asServicePrincipal(selection(volume.Selection{Prefix: "APP-"})))); diff != "" {
		t.Error(diff)
	}
	tags := map[string]string{"env": "prod", "n": "1"}
	if diff := cmp.Diff(odd, w.fetch(w.asServicePrincipal(selection(volume.Selection{Tags: tags})))); diff != "" {
		t.Error(diff)
	}
	all["Other"] = "x"
	if diff := cmp.Diff(all, w.fetch(w.asServicePrincipal(selection(volume.Selection{})))); diff != "" {
		t.Error(diff)
	}
	if files := w.fetch(w.asServicePrincipal(selection(volume.Selection{Prefix: "nothing"}))); len(files) > 0 {
		t.Error(files)
	}
	// An object that disappears between the list and the read is left out. Other failures are errors.
	w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Path: "/secrets/app-07", Action: devcloud.Fail, Status: 404, Times: 1})
	delete(all, "app-07")
	if diff := cmp.Diff(all, w.fetch(w.asServicePrincipal(selection(volume.Selection{})))); diff != "" {
		t.Error(diff)
	}
	both := w.asServicePrincipal(secret("Other"), selection(volume.Selection{Prefix: "other"}))
	w.fails(both, volume.ErrInvalid, `secrets[0]: writes "Other" twice`)
	w.vault.Deny(clientID, devcloud.SecretsList)
	w.fails(w.asServicePrincipal(selection(volume.Selection{})), volume.ErrDenied,
		`objects[0]: the list of secrets of https://shop.vault.azure.net as servicePrincipal `+clientID+`: HTTP 403 Forbidden, ForbiddenByPolicy: `+
			`the identity may not do secrets/list; add it to the vault's access policy, or assign the role "Key Vault Secrets User"`)
}

func TestOptional(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	w.vault.SetSecret("here", "x", devcloud.SecretOptions{})
	w.vault.SetSecret("off", "x", devcloud.SecretOptions{Disabled: true})
	absent, off := secret("absent"), secret("off")
	absent.Optional, off.Optional = true, true
	if diff := cmp.Diff(map[string]string{"here": "x"}, w.fetch(w.asServicePrincipal(absent, off, secret("here")))); diff != "" {
		t.Error(diff)
	}
	// Another object of the same volume may need it.
	needed := secret("absent")
	needed.Source, needed.Outputs[0].Path = "secrets[7]", "needed"
	w.fails(w.asServicePrincipal(absent, needed), volume.ErrNotFound,
		`secrets[7]: secret "absent" of https://shop.vault.azure.net as servicePrincipal `+clientID+
			`: HTTP 404 SecretNotFound: there is no such object; check the name, or recover it if it was deleted`)
	// A refusal does not count as absence.
	w.later(2 * time.Second)
	w.vault.Deny(clientID)
	_, err := w.client.Fetch(t.Context(), w.asServicePrincipal(absent))
	if !errors.Is(err, volume.ErrDenied) {
		t.Errorf("got %v, want %v", err, volume.ErrDenied)
	}
}

func TestFetchedIsTheAgeOfTheOldest(t *testing.T) {
	t.Parallel()
	var seconds int64
	start := time.Now()
	clock := make(chan struct{}, 1)
	now := func() time.Time {
		clock <- struct{}{}
		defer func() { <-clock }()
		seconds++
		return start.Add(time.Duration(seconds) * time.Millisecond)
	}
	w := newFixture(t, func(o *keyvault.Options) { o.Now = now })
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	before := now()
	request := w.asServicePrincipal(secret("a"))
	request.Folders = []string{"certs", "secrets"}
	content, err := w.client.Fetch(t.Context(), request)
	w.must(err)
	if !content.Fetched.After(before) || !content.Fetched.Before(now()) {
		t.Errorf("fetched at %v", content.Fetched)
	}
	if diff := cmp.Diff(request.Folders, content.Folders); diff != "" {
		t.Error(diff)
	}
}

// Identities with the same client id but different credentials never share a token.
func TestNothingIsSharedAcrossIdentities(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	w.fetch(w.asServicePrincipal(secret("a")))
	w.fetch(w.asWorkload(secret("a")))

	stranger := w.asServicePrincipal(secret("a"))
	stranger.Identity.ClientSecret = volume.NewSecret([]byte("guessed"))
	if _, err := w.client.Fetch(t.Context(), stranger); !errors.Is(err, volume.ErrUnauthenticated) {
		t.Errorf("with another secret: %v", err)
	}
	for _, pod := range []volume.Pod{{Namespace: "shop", ServiceAccount: "other"}, {Namespace: "other", ServiceAccount: "web"}} {
		stranger := w.asWorkload(secret("a"))
		stranger.Pod = pod
		stranger.Identity.Assertion = w.token(devcloud.ServiceAccountToken{Namespace: pod.Namespace, ServiceAccount: pod.ServiceAccount})
		if _, err := w.client.Fetch(t.Context(), stranger); !errors.Is(err, volume.ErrUnauthenticated) {
			t.Errorf("as %s/%s: %v", pod.Namespace, pod.ServiceAccount, err)
		}
	}
}

// A token that the vault no longer accepts is dropped.
func TestARefusedTokenIsRenewed(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	w.fetch(w.asServicePrincipal(secret("a")))
	logins := func() int { return w.Count(devcloud.CountKey{Service: devcloud.ServiceLogin, Kind: "token"}) }

	// A token that is refused once, like a revoked one, causes no error.
	w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Fail, Status: 401, Times: 1})
	w.ResetCounts()
	w.fetch(w.asServicePrincipal(secret("a")))
	if got := logins(); got != 1 {
		t.Errorf("%d logins after a refused token, want 1", got)
	}

	// A second refusal is the result.
	stop := w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Fail, Status: 401})
	w.ResetCounts()
	if _, err := w.client.Fetch(t.Context(), w.asServicePrincipal(secret("a"))); !errors.Is(err, volume.ErrUnauthenticated) {
		t.Fatal(err)
	}
	if got := logins(); got != 1 {
		t.Errorf("%d logins while every token is refused, want 1", got)
	}
	stop()
	w.later(2 * time.Second)
	w.ResetCounts()
	w.fetch(w.asServicePrincipal(secret("a")))
	if got := logins(); got != 1 {
		t.Errorf("%d logins after that, want 1", got)
	}
}

// A vault that has moved to another tenant is read with a token of that one, unless the pod names a tenant.
func TestAVaultThatMovesToAnotherTenant(t *testing.T) {
	t.Parallel()
	for tenant, moves := range map[string]string{
		"":       "",
		tenantID: "; set tenantID to that one or leave it out",
	} {
		w := newFixture(t)
		r := w.asServicePrincipal(secret("a"))
		r.Identity.TenantID = tenant
		w.vault.SetSecret("a", "before", devcloud.SecretOptions{})
		w.fetch(r)
		w.RemoveVault(w.vault)
		w.must(w.AddIdentity(devcloud.Identity{Tenant: otherTenantID, ClientID: clientID, Secrets: []devcloud.ClientSecret{{Value: clientSecret}}}))
		moved := w.addVault("shop", otherTenantID)
		moved.Grant(clientID)
		moved.SetSecret("a", "after", devcloud.SecretOptions{})
		content, err := w.client.Fetch(t.Context(), r)
		if moves == "" && (err != nil || string(content.Files[0].Data.Reveal()) != "after") {
			t.Errorf("without tenantID: %v", err)
		}
		if moves != "" && (!errors.Is(err, volume.ErrUnauthenticated) || !strings.HasSuffix(err.Error(), "tenant "+otherTenantID+moves)) {
			t.Errorf("with tenantID: %v", err)
		}
	}
}

// A vault that sends Retry-After is asked again within the caller's deadline.
func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	for _, fault := range []devcloud.Fault{{Action: devcloud.Throttle}, {Action: devcloud.Fail, Status: 503}} {
		var w *fixture
		var waited time.Duration
		began := time.Now()
		w = newFixture(t, func(o *keyvault.Options) {
			o.Now = func() time.Time { return began.Add(time.Duration(w.ahead.Load())) } // the test's own time does not count
			o.After = func(d time.Duration) <-chan time.Time {
				waited += d
				w.later(d)
				return time.After(0)
			}
		})
		w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
		w.fetch(w.asServicePrincipal(secret("a")))
		fault.Service, fault.RetryAfter, fault.Times = devcloud.ServiceVault, 20*time.Second, 1
		w.inject(fault)
		w.fetch(w.asServicePrincipal(secret("a")))
		if waited < 20*time.Second || waited > 22*time.Second {
			t.Errorf("%s: asked again after %v, want 20s and up to a tenth more", fault.Action, waited)
		}
		waited, fault.Times = 0, 0
		w.inject(fault)
		_, err := w.client.Fetch(timeLeft{t.Context(), 10 * time.Second}, w.asServicePrincipal(secret("a")))
		if !errors.Is(err, volume.ErrUnavailable) {
			t.Errorf("%s: got %v, want the refusal at once", fault.Action, err)
		}
	}
}

// The same for Entra ID. A caller with less time than Retry-After fails at once. So do all callers of this identity
// until then, for any object, without a request. Other identities can still log in.
func TestEntraIDIsNotAskedWhileItThrottles(t *testing.T) {
	t.Parallel()
	for _, fault := range []devcloud.Fault{{Action: devcloud.Throttle}, {Action: devcloud.Fail, Status: 503}} {
		var w *fixture
		var waited time.Duration
		w = newFixture(t, func(o *keyvault.Options) {
			o.After = func(d time.Duration) <-chan time.Time {
				waited += d
				w.later(d)
				return time.After(0)
			}
		})
		for _, name := range []string{"a", "b", "c"} {
			w.vault.SetSecret(name, "x", devcloud.SecretOptions{})
		}
		logins := func() int { return w.Count(devcloud.CountKey{Service: devcloud.ServiceLogin}) }
		fault.Service, fault.RetryAfter, fault.Times = devcloud.ServiceLogin, 20*time.Second, 1
		w.inject(fault)
		w.fetch(w.asServicePrincipal(secret("a")))
		if waited < 20*time.Second || waited > 23*time.Second {
			t.Errorf("%s: asked again after %v, want 20s and up to a tenth more", fault.Action, waited)
		}
		waited, fault.RetryAfter, fault.Times = 0, time.Hour, 1
		w.inject(fault)
		w.ResetCounts()
		for _, name := range []string{"a", "b", "c"} {
			if _, err := w.client.Fetch(t.Context(), w.asWorkload(secret(name))); !errors.Is(err, volume.ErrUnavailable) || waited > 0 {
				t.Errorf("%s: %q: got %v, after %v, want the refusal at once", fault.Action, name, err, waited)
			}
			w.later(5 * time.Minute)
		}
		if n := logins(); n != 1 {
			t.Errorf("%s: %d requests to Entra ID, want the one that was refused", fault.Action, n)
		}
		other := w.asServicePrincipal(secret("b"))
		other.Identity.ClientID = otherClientID
		w.fetch(other)
		w.later(time.Hour)
		w.fetch(w.asWorkload(secret("a")))
	}
}

// The SDK reads environment variables. None may change what the driver does.
func TestTheEnvironmentIsNotRead(t *testing.T) {
	for name, value := range map[string]string{
		"AZURE_AUTHORITY_HOST": "https://elsewhere.example.com/", "AZURE_REGIONAL_AUTHORITY_NAME": "westeurope",
		"MSAL_FORCE_REGION": "westeurope", "AZURE_TENANT_ID": otherTenantID, "AZURE_CLIENT_ID": otherClientID,
		"AZURE_ADDITIONALLY_ALLOWED_TENANTS": "*", "AZURE_FEDERATED_TOKEN_FILE": "/nowhere",
		"HTTPS_PROXY": "http://127.0.0.1:1", "SSL_CERT_FILE": "/nowhere", "NO_PROXY": "*",
	} {
		t.Setenv(name, value)
	}
	w := newFixture(t)
	w.vault.SetSecret("a", "x", devcloud.SecretOptions{})
	w.fetch(w.asServicePrincipal(secret("a")))
	w.fetch(w.asWorkload(secret("a")))
	for _, request := range w.Requests() {
		if request.Service == devcloud.ServiceLogin && request.Host != "login.microsoftonline.com" {
			t.Errorf("asked %s%s", request.Host, request.Path)
		}
	}
}

const secp256k1Point = "BMaJFiwgw5bXF/Q7pFO4U+qvyPrsaKR5jgwyspoe1oqKySGhgxR6EjEwUQKlF24A1MqrqiWVY5kvS8e1AXsPuHU="

const secp256k1PEM = `-----BEGIN PUBLIC KEY-----
MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAExokWLCDDltcX9DukU7hT6q/I+uxopHmO
DDKymh7WiorJIaGDFHoSMTBRAqUXbgDUyquqJZVjmS9Lx7UBew+4dQ==
-----END PUBLIC KEY-----
`
