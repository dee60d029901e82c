package e2e

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"path"
	"strings"
	"testing"
	"time"
)

// testClusterIdentity: pods of one namespace may use the identity in the node's azure.json, pods of the other may not. The file is replaced, by
// another login and then by one with a certificate file, and the next fetch uses it.
func testClusterIdentity(t *testing.T, e *env) {
	v := e.newVault(t)
	v.set(t, "password", "by nobody yet")
	attributes := map[string]string{"vault": v.name, "identity": "cluster", "objects": "- secret: password"}

	certificate, key := newLogin(t)
	e.replaceOnNode(t, path.Dir(clusterFile)+"/login.pem", key+certificate)
	logins := []struct {
		clientID string
		known    object // in Entra ID
		file     object // in the node's file
	}{
		{newGUID(), object{"secrets": []object{{"value": "first s3cret"}}}, object{"aadClientSecret": "first s3cret"}},
		{newGUID(), object{"secrets": []object{{"value": "other s3cret"}}}, object{"aadClientSecret": "other s3cret"}},
		{newGUID(), object{"certificates": certificate}, object{"aadClientCertPath": path.Dir(clusterFile) + "/login.pem"}},
	}
	use := func(i int) {
		login := logins[i]
		login.known["tenant"], login.known["clientID"] = tenant, login.clientID
		v.admin(t, "/identities", login.known)
		v.admin(t, "/grant", object{"vault": v.name, "clientID": login.clientID})
		login.file["cloud"], login.file["tenantId"], login.file["aadClientId"] = "AzurePublicCloud", tenant, login.clientID
		text, err := json.Marshal(login.file)
		if err != nil {
			t.Fatal(err)
		}
		e.replaceOnNode(t, clusterFile, string(text))
	}
	use(0)

	refused := e.start(t, "refused", volume{namespace: otherNamespace, attributes: attributes})
	message := refused.awaitEvent(t, "code = PermissionDenied")
	for _, want := range []string{"identity cluster at " + v.url(), otherNamespace, "the operator must"} {
		if !strings.Contains(message, want) {
			t.Errorf("the refusal does not name %s: %s", want, message)
		}
	}
	if asked := v.requests(t, 0); asked != 0 {
		t.Errorf("the vault got %d requests for a pod that the policy refuses", asked)
	}

	v.set(t, "password", "by login 0")
	p := e.run(t, "cluster", volume{serviceAccount: "stranger", attributes: attributes})
	p.mustHold(t, mountPath+"/password", "by login 0")
	same := p.sameProcess(t)
	for i := 1; i < len(logins); i++ {
		use(i)
		v.admin(t, "/deny", object{"vault": v.name, "clientID": logins[i-1].clientID})
		value := "by login " + string(rune('0'+i))
		v.set(t, "password", value)
		p.age(t, time.Minute)
		p.awaitContent(t, mountPath+"/password", value)
	}
	same()
	if mounts, err := refused.mounts(t.Context()); err != nil || len(mounts) != 0 {
		t.Errorf("the refused pod has the mounts %+v, %v", mounts, err)
	}
}

// newLogin makes the certificate and key of an application, as PEM.
func newLogin(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the cluster's login"}, NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}
