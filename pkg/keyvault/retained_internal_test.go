package keyvault

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// What stands for a selection among what is known of a vault is small, however long its tags are, and that of no other.
func TestSelector(t *testing.T) {
	t.Parallel()
	tags := map[string]string{}
	for i := range 15 {
		tags[fmt.Sprint(i)] = strings.Repeat("\U0010ffff", 256)
	}
	known := map[string]bool{}
	for _, s := range []volume.Selection{
		{}, {Prefix: "a"}, {Prefix: "b"}, {Tags: map[string]string{"a": ""}}, {Tags: map[string]string{"a": "b"}},
		{Tags: map[string]string{`a" "b`: "c"}}, {Tags: map[string]string{"a": `b" "c`}}, {Tags: tags},
	} {
		stands := selector(&s)
		if len(stands) > 64 || known[stands] {
			t.Errorf("prefix %q and %d tags: %d bytes; known already: %t", s.Prefix, len(s.Tags), len(stands), known[stands])
		}
		known[stands] = true
	}
	if selector(&volume.Selection{Prefix: "Web"}) != selector(&volume.Selection{Prefix: "wEB"}) {
		t.Error("a prefix has no case")
	}
}

// Of a refusal its first words stay, however many it has.
func TestRefusalsAreSmall(t *testing.T) {
	t.Parallel()
	filler := strings.Repeat("x", 500_000)
	response := func(body string) *http.Response {
		return &http.Response{StatusCode: http.StatusForbidden, Body: io.NopCloser(bytes.NewReader([]byte(body)))}
	}
	for name, said := range map[string]*answer{
		"vault": vaultAnswer(&azcore.ResponseError{StatusCode: http.StatusForbidden, RawResponse: response(
			`{"error":{"code":"Forbidden","message":"Operation get is not allowed on a disabled secret. ` + filler + `"}}`)}),
		"Entra ID":         entraAnswer(response(`{"error":"invalid_client","error_description":"on a disabled ` + filler + `"}`)),
		"metadata service": metadataAnswer(response(`{"error":"invalid_request","error_description":"on a disabled ` + filler + `"}`)),
	} {
		if len(said.message) > messageBytes || !said.mentions("on a disabled ") || len(said.codes) != 1 {
			t.Errorf("%s: %d bytes of message, %v", name, len(said.message), said)
		}
	}
}

// Of a client certificate the chain is kept, and not everything that its file has.
func TestTheChainIsKept(t *testing.T) {
	t.Parallel()
	read := func(name string) []byte {
		content, err := os.ReadFile("testdata/login/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	want, _, err := parseClientCertificate(read("plain.pem"), nil)
	if err != nil {
		t.Fatal(err)
	}
	chain, _, err := parseClientCertificate(append(bytes.Repeat(append(read("root.pem"), '\n'), 100), read("plain.pem")...), nil)
	if err != nil || len(chain) != maxSent {
		t.Fatalf("%d certificates, want %d: %v", len(chain), maxSent, err)
	}
	for i, cert := range want {
		if !cert.Equal(chain[i]) {
			t.Errorf("number %d of the chain is another", i)
		}
	}
}
