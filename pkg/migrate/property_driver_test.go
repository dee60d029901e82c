package migrate_test

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/keyvault-csi/keyvault-csi/pkg/migrate"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// driverCSI is the name of this driver in a manifest.
const driverCSI = "keyvault-csi.io"

// driverAsks describes a volume of this driver in the words of the model of the provider. What the provider cannot ask for stands
// in the contents, so that it is never equal.
func driverAsks(r volume.Request, csi any) asked {
	a := asked{files: map[string]askedFile{}}
	var vaults []string
	for _, o := range r.Objects {
		vaults = append(vaults, strings.TrimPrefix(o.Vault, "https://"))
		for _, out := range slices.Concat(o.Outputs, o.Split) {
			mode := out.Mode
			if mode == 0 {
				mode = 0o644
			}
			a.files[out.Path] = askedFile{fmt.Sprintf("%04o", uint32(mode)), []string{driverContent(o, out.Part)}}
		}
	}
	slices.Sort(vaults)
	a.vault = strings.Join(slices.Compact(vaults), " and ")
	id, secret := r.Identity, textAt(csi, "nodePublishSecretRef", "name")
	switch id.Kind {
	case volume.Workload:
		a.identity = workloadIdentity(id.ClientID, id.TenantID)
	case volume.Managed:
		a.identity = managedIdentity(id.ClientID + id.ObjectID + id.ResourceID)
	case volume.ServicePrincipal:
		a.identity = secretIdentity(secret, id.ClientID, id.TenantID)
	default:
		a.identity = string(id.Kind)
	}
	if secret != "" && id.Kind != volume.ServicePrincipal {
		a.identity += ", and the Secret " + secret
	}
	return a
}

func driverContent(o volume.Object, part volume.Part) string {
	what := map[string]string{
		"secret value utf-8": "value of", "secret value base64": "base64 of", "secret value hex": "hex of",
		"certificate pem": "pem of", "certificate cert": "leaf of", "certificate chain": "chain of", "certificate key": "private key of",
		"public certificate cert": "leaf of", "key publicKey": "public key of",
	}
	kind := string(o.Kind) + " " + string(part)
	if part == volume.PartValue {
		kind += " " + string(o.Encoding)
	}
	text := content(what[kind], o.Name, o.Version)
	if what[kind] == "" {
		text = content(kind, o.Name, o.Version)
	}
	if o.Optional || o.HonourEncodingTag || len(o.Split) > 0 || part == volume.PartPEM &&
		(o.ChainOrder != volume.ChainOrderChain || o.KeyFormat != volume.PKCS8) {
		text += fmt.Sprintf(" (%+v)", o)
	}
	return text
}

// sameVolume reports whether this driver does for a pod what the provider did. It may write the certificates and the key
// beside the PEM of a certificate, as the provider does on AKS.
func sameVolume(provider, driver asked, knownClient bool) bool {
	if !knownClient {
		provider.identity, _, _ = strings.Cut(provider.identity, clientOf)
		driver.identity, _, _ = strings.Cut(driver.identity, clientOf)
	}
	if provider.vault != driver.vault || provider.identity != driver.identity {
		return false
	}
	left := maps.Clone(driver.files)
	for p, want := range provider.files {
		got, written := left[p]
		if !written || got.mode != want.mode || !slices.Contains(want.contents, got.contents[0]) {
			return false
		}
		delete(left, p)
		name, isPEM := strings.CutPrefix(got.contents[0], "pem of ")
		for suffix, what := range map[string]string{".crt": "chain of ", ".key": "private key of "} {
			if beside, ok := left[p+suffix]; ok && isPEM && provider.files[p+suffix].mode == "" && beside.mode == got.mode && beside.contents[0] == what+name {
				delete(left, p+suffix)
			}
		}
	}
	return len(left) == 0
}

// newVolumes are the volumes of this driver in a result, as its parser sees them.
type newVolumes map[string][]migrate.Volume // by line and name

func readNewVolumes(data []byte, suffix string) (newVolumes, error) {
	all, err := migrate.Volumes([]migrate.File{{Name: "x", Data: data}}, volume.Defaults{VaultSuffix: suffix})
	found := newVolumes{}
	for _, v := range all {
		key := fmt.Sprint(v.Line, v.Name)
		found[key] = append(found[key], v)
	}
	return found, err
}

// at returns the volumes at a position: several only if they have one name and stand on one line.
func (n newVolumes) at(v modelVolume) []migrate.Volume {
	return n[fmt.Sprint(v.line, textAt(v.fields, "name"))]
}

// sameRest reports whether two sets of manifests are equal but for the classes of the provider and the volumes of both drivers.
func sameRest(before, after *cluster) bool {
	return reflect.DeepEqual(stripped(before.documents), stripped(after.documents))
}

func stripped(value any) any {
	switch v := value.(type) {
	case []any:
		list := []any{}
		for _, item := range v {
			if kept := stripped(item); kept != nil {
				list = append(list, kept)
			}
		}
		return list
	case map[string]any:
		if isStoreClass(v) && at(v, "spec", "provider") == "azure" {
			return nil
		}
		if driver := at(v, "csi", "driver"); driver == storeCSI || driver == driverCSI {
			return map[string]any{"name": v["name"]}
		}
		pairs := map[string]any{}
		for name, item := range v {
			pairs[name] = stripped(item)
		}
		return pairs
	}
	return value
}
