package volume_test

import (
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// BenchmarkParseToken parses a volume with a token of the size and with the claims of Kubernetes 1.32.
func BenchmarkParseToken(b *testing.B) {
	token := jwt(`{"aud":["`+audience+`"],"exp":1764412800,"iat":1764409200,"iss":"https://oidc.example/0123/","jti":"f6b9c5c0-1f0e-4b39",`+
		`"kubernetes.io":{"namespace":"shop","node":{"name":"aks-nodepool1-1","uid":"6c6e8b40-7c9c-4d0a-9f1c-1a2b3c4d5e6f"},`+
		`"pod":{"name":"web-6d4b75cb6d-hwxpz","uid":"0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"},`+
		`"serviceaccount":{"name":"web","uid":"11112222-3333-4444-5555-666677778888"}},"nbf":1764409200,"sub":"system:serviceaccount:shop:web"}`) +
		strings.Repeat("s", 342) // a signature of RSA with 2,048 bits
	attributes := valid(pairs{"secrets": "a;b", volume.KubeletTokens: tokens(audience, token)})
	b.ReportAllocs()
	for parser := volume.NewParser(volume.Defaults{}); b.Loop(); {
		if _, err := parser.Parse(attributes, nil); err != nil {
			b.Fatal(err)
		}
	}
}
