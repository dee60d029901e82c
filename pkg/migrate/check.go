package migrate

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// DriverName is the CSI driver whose volumes this package writes and finds.
const DriverName = "keyvault-csi.io"

// check validates a new volume with the driver's parser. After a problem the workload is not changed.
func (p *plan) check(at *yaml.Node, s *settings) {
	cloud := vaultSuffix(placeholder.ReplaceAllString(s.values[volume.AttributeVault], "a"))
	if cloud != "" && cloud != clouds[0].suffix {
		p.note(at, "the vault is one of %s: %s", cloud, driverCloud(cloud))
	}
	secrets := map[string]string{}
	if s.secretRef != "" {
		secrets = placeholderSecret(s.values)
	}
	who := pod{name: p.name, namespace: p.namespace, serviceAccount: p.serviceAccount()}
	var fill standIns
	values := map[string]string{}
	for name, value := range s.values {
		values[name] = fill.fill(name, value)
	}
	_, err := volume.Parse(who.complete(values), secrets, volume.Defaults{VaultSuffix: cloud})
	if problems, wrong := errors.AsType[volume.Problems](err); wrong {
		for _, problem := range problems {
			text := fill.replacer().Replace(problem.String())
			if placeholder.MatchString(text) {
				text += "; write its value, or " + buildOrRender
			}
			p.problem(at, "the volume would be refused: %s", text)
		}
	}
}

// driverCloud returns the setting of the driver for a vault suffix of another cloud than the public one.
func driverCloud(suffix string) string {
	for _, cloud := range clouds {
		if suffix == cloud.suffix {
			return "install the driver with --cloud " + cloud.name
		}
	}
	return "install the driver with --cloud custom, --vault-dns-suffix " + suffix + " and --authority-host"
}

// vaultSuffix returns the cloud's DNS name in a vault's URL. It is empty if there is none, or if the parser should validate
// the URL for the public cloud, with its hints.
func vaultSuffix(url string) string {
	host, isURL := strings.CutPrefix(strings.ToLower(url), "https://")
	label, suffix, dotted := strings.Cut(strings.TrimSuffix(host, ":443"), ".")
	if !isURL || !dotted || !volume.ValidName(label) || strings.Contains(suffix, "privatelink") || strings.HasPrefix(suffix, "managedhsm.") {
		return ""
	}
	for name := range strings.SplitSeq(suffix, ".") {
		if !volume.ValidName(name) {
			return ""
		}
	}
	return suffix
}

// pod is the pod of a volume, as far as the manifest has it.
type pod struct {
	name, namespace, serviceAccount string
}

// complete adds the attributes of the kubelet: the pod, and an unsigned token of its service account.
func (w pod) complete(attributes map[string]string) map[string]string {
	all := maps.Clone(attributes)
	if all == nil {
		all = map[string]string{}
	}
	or := func(s, fallback string) string {
		if s == "" || len(s) > 253 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fallback
		}
		return s
	}
	namespace, account := or(w.namespace, "default"), or(w.serviceAccount, "default")
	all[volume.KubeletPodName] = or(w.name, "pod")
	all[volume.KubeletPodNamespace] = namespace
	all[volume.KubeletPodUID] = "00000000-0000-0000-0000-000000000000"
	all[volume.KubeletServiceAccount] = account
	claims, _ := json.Marshal(map[string]string{"sub": "system:serviceaccount:" + namespace + ":" + account})
	tokens, _ := json.Marshal(map[string]map[string]string{
		audience: {"token": "e30." + base64.RawURLEncoding.EncodeToString(claims) + ".e30"},
	})
	all[volume.KubeletTokens] = string(tokens)
	return all
}

const audience = "api://AzureADTokenExchange"

// placeholderSecret returns a Secret in place of one that is not in the manifests, with the keys that the attributes lack.
func placeholderSecret(attributes map[string]string) map[string]string {
	secret := map[string]string{volume.SecretClientSecret: "placeholder"}
	if _, named := attributes[volume.AttributeClientID]; !named {
		secret[volume.SecretClientID] = "00000000-0000-0000-0000-000000000000"
	}
	return secret
}
