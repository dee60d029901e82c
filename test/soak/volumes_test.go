package soak_test

import (
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// The content of the vaults. The secrets of bulk that are called extra are created and deleted; all other objects always exist.
const (
	bulk         = "bulk"
	plainSecrets = 8 // of each vault: app-0, …
	certificates = 2 // of each vault but bulk: web-0, …
	extras       = 3 // of bulk: extra-0, …
)

// fullVaults have certificates.
var fullVaults = []string{node.VaultName, "pay", "edge"} //nolint:gochecknoglobals // a constant

// spec is a kind of volume: its attributes, and the source of its files.
type spec struct {
	name       string
	attributes func(vault string) map[string]string
	principal  bool // logs in as the service principal instead of the pod's service account
	group      bool // has an fsGroup
	// files of a complete set.
	files func(vault string) []output
}

// output is one file of a set, or all files of a certificate.
type output struct {
	vault, object string
	path          string
	mode          fs.FileMode // 0: the default
	certificate   bool        // path is a folder with all outputs of a certificate
	legacy        bool        // with certificate: path is the predecessor's file name
	optional      bool
}

func volumeSpecs() []spec {
	app := func(vault string, from, to int, folder string) (files []output) {
		for i := from; i < to; i++ {
			files = append(files, output{vault: vault, object: fmt.Sprint("app-", i), path: filepath.Join(folder, fmt.Sprint("app-", i))})
		}
		return files
	}
	allOutputs := func(name, folder string) string {
		return fmt.Sprintf("- {certificate: %s, cert: %[2]s/cert, chain: %[2]s/chain, ca: %[2]s/ca, key: %[2]s/key, pem: %[2]s/pem, pfx: %[2]s/pfx}\n", name, folder)
	}
	several := func(vault string) map[string]string {
		return map[string]string{"vault": vault, "objects": "- {secret: app-2, path: a/deep/one, mode: '0440'}\n" +
			allOutputs("web-0", "tls") + "- {secret: app-3, path: a/other}\n"}
	}
	severalFiles := func(vault string) []output {
		return []output{
			{vault: vault, object: "app-2", path: "a/deep/one", mode: 0o440},
			{vault: vault, object: "web-0", path: "tls", certificate: true},
			{vault: vault, object: "app-3", path: "a/other"},
		}
	}
	return []spec{
		{
			name: "the predecessor's grammar",
			attributes: func(vault string) map[string]string {
				return map[string]string{"vault": vault, "secrets": "app-0;app-1;app-2"}
			},
			files: func(vault string) []output { return app(vault, 0, 3, "secrets") },
		},
		{
			name: "the predecessor's certificate",
			attributes: func(vault string) map[string]string {
				return map[string]string{"vault": vault, "secrets": "web-1;app-4"}
			},
			files: func(vault string) []output {
				return append(app(vault, 4, 5, "secrets"), output{vault: vault, object: "web-1", path: "web-1", certificate: true, legacy: true})
			},
		},
		{
			name:       "every secret of a vault",
			attributes: func(string) map[string]string { return map[string]string{"vault": bulk, "secrets": "*"} },
			files: func(string) []output {
				files := app(bulk, 0, plainSecrets, "secrets")
				for i := range extras {
					name := fmt.Sprint("extra-", i)
					files = append(files, output{vault: bulk, object: name, path: "secrets/" + name, optional: true})
				}
				return files
			},
		},
		{name: "several outputs of an object", attributes: several, files: severalFiles},
		{name: "a service principal", attributes: several, files: severalFiles, principal: true},
		{name: "an fsGroup", attributes: several, files: severalFiles, group: true},
		{
			name: "a selection",
			attributes: func(vault string) map[string]string {
				return map[string]string{"vault": vault, "objects": "- {secrets: {prefix: app-}, path: all}\n"}
			},
			files: func(vault string) []output { return app(vault, 0, plainSecrets, "all") },
		},
		{
			name: "two vaults, one object optional",
			attributes: func(vault string) map[string]string {
				return map[string]string{"vault": vault, "objects": "- secret: app-6\n- {secret: app-7, vault: " + bulk + ", path: bulk/app-7}\n" +
					"- {secret: extra-0, vault: " + bulk + ", path: bulk/extra, optional: true}\n"}
			},
			files: func(vault string) []output {
				return []output{
					{vault: vault, object: "app-6", path: "app-6"},
					{vault: bulk, object: "app-7", path: "bulk/app-7"},
					{vault: bulk, object: "extra-0", path: "bulk/extra", optional: true},
				}
			},
		},
	}
}

// volume is a pod's volume of this kind.
func (s spec) volume(name, vault string) kubelet.Volume {
	v := kubelet.Volume{
		Name: name, Namespace: node.Namespace, ServiceAccount: node.ServiceAccount,
		Attributes: map[string]string{"rotationInterval": interval.String()},
	}
	maps.Copy(v.Attributes, s.attributes(vault))
	if s.principal {
		v.Secret = map[string]string{"clientid": node.PrincipalID, "clientsecret": node.PrincipalSecret}
	} else {
		v.Attributes["clientID"] = node.WorkloadID
	}
	if s.group {
		v.FSGroup = fsGroup
	}
	return v
}

// fsGroup of the volumes with one.
const fsGroup = "1234"

// vaultsOf are the vaults that the volume reads.
func vaultsOf(files []output) []string {
	var names []string
	for _, f := range files {
		names = append(names, f.vault)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
