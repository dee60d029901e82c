package volume_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// A pod of the namespace shop, with the attributes of its author and of the kubelet.
func ExampleParse() {
	payload := base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"system:serviceaccount:shop:web"}`))
	attributes := map[string]string{
		"vault":    "https://myvault.vault.azure.net",
		"clientID": "11111111-2222-3333-4444-555555555555",
		"secrets":  "db-password;web-tls::web.crt:web.key",
		"objects":  "- secret: api-key\n  path: app/api.key\n  mode: \"0440\"\n",
		"timeout":  "90s",

		"csi.storage.k8s.io/pod.name":              "web-0",
		"csi.storage.k8s.io/pod.namespace":         "shop",
		"csi.storage.k8s.io/pod.uid":               "3f4e2a0c-9d4e-4c3b-8f57-000000000001",
		"csi.storage.k8s.io/serviceAccount.name":   "web",
		"csi.storage.k8s.io/serviceAccount.tokens": `{"api://AzureADTokenExchange":{"token":"e30.` + payload + `.c2ln"}}`,
	}
	request, err := volume.Parse(attributes, nil, volume.Defaults{RotationInterval: 2 * time.Minute})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(request.Identity.Kind, request.Identity.ClientID, request.Identity.Assertion)
	fmt.Println("rotation after", request.RotationInterval, "and one publish at most", request.Timeout)
	for _, object := range request.Objects {
		fmt.Println(object.Source, object.Kind, object.Vault, object.Name)
		for _, output := range object.Outputs {
			fmt.Println("  always:", output.Part, output.Path)
		}
		for _, output := range object.Split {
			fmt.Println("  of a certificate:", output.Part, output.Path)
		}
	}
	// Output:
	// workload 11111111-2222-3333-4444-555555555555 [redacted]
	// rotation after 2m0s and one publish at most 1m30s
	// secrets[0] secret https://myvault.vault.azure.net db-password
	//   always: value secrets/db-password
	//   of a certificate: key keys/db-password
	//   of a certificate: chain certs/db-password
	// secrets[1] secret https://myvault.vault.azure.net web-tls
	//   always: value secrets/web-tls
	//   of a certificate: key certs_keys/web.key
	//   of a certificate: chain certs_keys/web.crt
	// objects[0] secret https://myvault.vault.azure.net api-key
	//   always: value app/api.key
}

// All problems are reported at once: as one line for people, as a list for programs.
func ExampleParse_problems() {
	_, err := volume.Parse(map[string]string{
		"vault":    "myvault",
		"clientId": "11111111-2222-3333-4444-555555555555",
		"identity": "cluster",
		"objects":  "- secret: api-key\n  path: ../api.key\n",

		"csi.storage.k8s.io/pod.name":            "web-0",
		"csi.storage.k8s.io/pod.namespace":       "shop",
		"csi.storage.k8s.io/pod.uid":             "3f4e2a0c-9d4e-4c3b-8f57-000000000001",
		"csi.storage.k8s.io/serviceAccount.name": "web",
	}, nil, volume.Defaults{})
	fmt.Println(errors.Is(err, volume.ErrInvalid))

	var problems volume.Problems
	errors.As(err, &problems)
	for _, problem := range problems {
		fmt.Printf("%s (line %d): %s\n", problem.Field, problem.Line, problem.Text)
	}
	// Output:
	// true
	// clientId (line 0): unknown attribute, did you mean clientID?
	// objects[0].path (line 2): the path "../api.key" has a component that begins with ".."
}

// A fetcher gets the secrets of a selection from the vault, and adds their files to the same tree.
func ExampleTree() {
	tree := volume.NewTree(nil)
	selection := volume.Object{Kind: volume.KindSecret, Source: "objects[1]"}
	fmt.Println(tree.Add("app/token", volume.Object{Kind: volume.KindSecret, Source: "objects[0]"}))
	fmt.Println(tree.Add("app/password", selection))
	fmt.Println(tree.Add("app/token", selection))
	// Output:
	// <nil>
	// <nil>
	// objects[1]: writes "app/token", which objects[0] writes already
}
