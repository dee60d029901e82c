package providerclass_test

import (
	"encoding/base64"
	"encoding/json"
	"maps"

	"github.com/keyvault-csi/keyvault-csi/pkg/providerclass"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const (
	client = "6a0d9f3e-52c1-4a8b-8d0e-9b7c1a2f3e4d"
	tenant = "3c1f7a52-1d0b-4c6e-9f1a-0a5c2e6b7d10"
)

func options() providerclass.Options { return providerclass.Options{Mode: 0o644} }

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// inPod adds what the Secrets Store CSI Driver sends beside the parameters of the class: the pod and its tokens.
func inPod(parameters map[string]string) map[string]string {
	all := map[string]string{
		volume.KubeletPodName: "web", volume.KubeletPodNamespace: "shop", volume.KubeletPodUID: "1b4e28ba", volume.KubeletServiceAccount: "web",
		volume.KubeletTokens:  tokens("api://AzureADTokenExchange"),
		"secretProviderClass": "web",
	}
	maps.Copy(all, parameters)
	return all
}

// tokens are those of the service account, in the kubelet's form.
func tokens(audience string) string {
	claims := base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"system:serviceaccount:shop:web","iss":"https://issuer.example.com"}`))
	text, _ := json.Marshal(map[string]map[string]string{audience: {"token": "e30." + claims + ".e30"}})
	return string(text)
}

// class returns the parameters of a class with one secret, changed by pairs of names and values. An empty value removes a parameter.
func class(changes ...string) map[string]string {
	all := map[string]string{
		providerclass.KeyvaultName: "golden", providerclass.TenantID: tenant, providerclass.ClientID: client,
		providerclass.Objects: "array:\n- |\n  objectName: plain\n  objectType: secret\n",
	}
	for i := 0; i < len(changes); i += 2 {
		if all[changes[i]] = changes[i+1]; changes[i+1] == "" {
			delete(all, changes[i])
		}
	}
	return all
}

// object returns the parameter objects with one entry, the secret plain with more fields.
func object(fields string) string {
	return "array:\n- |\n  objectName: plain\n  objectType: secret\n  " + fields + "\n"
}
