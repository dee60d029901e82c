package volume_test

import (
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

func TestVault(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"https://myvault.vault.azure.net":      "https://myvault.vault.azure.net",
		"https://myvault.vault.azure.net/":     "https://myvault.vault.azure.net",
		"https://myvault.vault.azure.net:443":  "https://myvault.vault.azure.net",
		"https://myvault.vault.azure.net:443/": "https://myvault.vault.azure.net",
		"HTTPS://MyVault.Vault.Azure.NET":      "https://myvault.vault.azure.net",
		"myvault":                              "https://myvault.vault.azure.net",
		"My-Vault-01":                          "https://my-vault-01.vault.azure.net",
		"abc":                                  "https://abc.vault.azure.net",
		strings.Repeat("a", 24):                "https://" + strings.Repeat("a", 24) + ".vault.azure.net",
	} {
		if got := mustParse(t, valid(pairs{"vault": text}), nil).Objects[0].Vault; got != want {
			t.Errorf("vault %q is %q, want %q", text, got, want)
		}
		object := mustParse(t, structured("- {secret: s, vault: \""+text+"\"}"), nil).Objects[0]
		if object.Vault != want {
			t.Errorf("objects[0].vault %q is %q, want %q", text, object.Vault, want)
		}
	}
}

func TestVaultRefused(t *testing.T) {
	t.Parallel()
	const (
		want  = ", want https://NAME.vault.azure.net or NAME (3 to 24 letters, digits and single hyphens, a letter first)"
		not   = " is not a vault" + want
		cloud = " is not a vault of this cloud" + want
		other = " belongs to another cloud than the one this driver is set up for"
	)
	for text, problem := range map[string]string{
		"":                                   `""` + not,
		"ab":                                 `"ab"` + not,
		strings.Repeat("a", 25):              `"` + strings.Repeat("a", 25) + `"` + not,
		"1vault":                             `"1vault"` + not,
		"-vault":                             `"-vault"` + not,
		"vault-":                             `"vault-"` + not,
		"va--lt":                             `"va--lt"` + not,
		"my_vault":                           `"my_vault"` + not,
		" myvault":                           `" myvault"` + not,
		"myvault\n":                          `"myvault\n"` + not,
		"myvault.vault.azure.net":            `"myvault.vault.azure.net"` + not,
		"http://myvault.vault.azure.net":     `"http://myvault.vault.azure.net"` + not,
		"//myvault.vault.azure.net":          `"//myvault.vault.azure.net"` + not,
		"https://myvault":                    `"https://myvault"` + cloud,
		"https://vault.azure.net":            `"https://vault.azure.net"` + cloud,
		"https://.vault.azure.net":           `"https://.vault.azure.net"` + not,
		"https://a.b.vault.azure.net":        `"https://a.b.vault.azure.net"` + not,
		"https://myvault.vault.azure.net.":   `"https://myvault.vault.azure.net."` + cloud,
		"https://myvault.vault.azure.net//":  `"https://myvault.vault.azure.net//"` + cloud,
		"https://myvault.vault.azure.net:80": `"https://myvault.vault.azure.net:80"` + cloud,
		"https://myvault.vault.azure.net/secrets":  `"https://myvault.vault.azure.net/secrets"` + cloud,
		"https://myvault.vault.azure.net?a=b":      `"https://myvault.vault.azure.net?a=b"` + cloud,
		"https://myvault.vault.azure.net#x":        `"https://myvault.vault.azure.net#x"` + cloud,
		"https://evil.example/.vault.azure.net":    `"https://evil.example/.vault.azure.net"` + not,
		"https://evil.example#.vault.azure.net":    `"https://evil.example#.vault.azure.net"` + not,
		"https://evil.example?.vault.azure.net":    `"https://evil.example?.vault.azure.net"` + not,
		`https://evil.example\.vault.azure.net`:    `"https://evil.example\\.vault.azure.net"` + not,
		"https://evil:pw@myvault.vault.azure.net":  `"https://evil:pw@myvault.vault.azure.net"` + not,
		"https://myvault.vault.azure.net@evil.com": `"https://myvault.vault.azure.net@evil.com"` + cloud,
		"https://myvaultxvault.azure.net":          `"https://myvaultxvault.azure.net"` + cloud,
		"https://127.0.0.1":                        `"https://127.0.0.1"` + cloud,
		"https://[::1]":                            `"https://[::1]"` + cloud,
		"https://xn--pple-43d.vault.azure.net":     `"https://xn--pple-43d.vault.azure.net"` + not,
		"https://m\u0443vault.vault.azure.net":     `"https://m\u0443vault.vault.azure.net"` + not,
		"https://myvault.vault.azure.n\u0435t":     `"https://myvault.vault.azure.n\u0435t"` + cloud,
		"https://myvault\u3002vault.azure.net":     `"https://myvault\u3002vault.azure.net"` + cloud,
		"\u212Aeyvault":                            `"\u212aeyvault"` + not, // the Kelvin sign, whose lower case is k
		"https://my\u017Fault.vault.azure.net":     `"https://my\u017fault.vault.azure.net"` + not,
		"https://my\x00vault.vault.azure.net":      `"https://my\x00vault.vault.azure.net"` + not,
		"https://my%76ault.vault.azure.net":        `"https://my%76ault.vault.azure.net"` + not,
		"https://myvault.vault.azure.net\r\nHost:": `"https://myvault.vault.azure.net\r\nHost:"` + cloud,
		"https://myvault.privatelink.vaultcore.azure.net": `"https://myvault.privatelink.vaultcore.azure.net"` + cloud +
			", the public name leads to the private endpoint by itself, write it without privatelink",
		"https://myvault.privatelink.vault.azure.net": `"https://myvault.privatelink.vault.azure.net"` + not +
			", the public name leads to the private endpoint by itself, write it without privatelink",
		"https://myvault.vault.usgovcloudapi.net": `"https://myvault.vault.usgovcloudapi.net"` + cloud +
			", vault.usgovcloudapi.net" + other,
		"https://myvault.vault.azure.cn/": `"https://myvault.vault.azure.cn/"` + cloud + ", vault.azure.cn" + other,
		"https://pool.managedhsm.azure.net": `"https://pool.managedhsm.azure.net"` + cloud +
			", a managed HSM holds no secrets",
		"https://" + strings.Repeat("x", 3000): `"https://` + strings.Repeat("x", 56) + `"...` + cloud,
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			_, err := volume.Parse(valid(pairs{"vault": text}), nil, volume.Defaults{})
			checkError(t, err, "vault: "+problem)
		})
	}
	_, err := volume.Parse(valid(pairs{"vault": "https://myvault.vault.azure.net"}), nil,
		volume.Defaults{VaultSuffix: "vault.azure.cn"})
	checkError(t, err, `vault: "https://myvault.vault.azure.net" is not a vault of this cloud, want `+
		`https://NAME.vault.azure.cn or NAME (3 to 24 letters, digits and single hyphens, a letter first), vault.azure.net`+other)
}

func TestVaultMissing(t *testing.T) {
	t.Parallel()
	refuse(t, map[string]refusal{
		"secrets": {pairs{"vault": "-"}, nil, "vault: is missing, and secrets[0] names no vault of its own"},
		"*":       {pairs{"vault": "-", "secrets": "*"}, nil, "vault: is missing, and secrets[0] names no vault of its own"},
		"certificates": {pairs{"vault": "-", "secrets": "", "certificates": "c"}, nil,
			"vault: is missing, and certificates[0] names no vault of its own"},
		"one object": {pairs{"vault": "-", "secrets": "-", "objects": "[{secret: a, vault: abc}, {secret: b}, {key: c}]"}, nil,
			"vault: is missing, and objects[1] names no vault of its own"},
		"objects[0].vault": {pairs{"objects": "[{secret: a, vault: \"http://a\"}]"}, nil, `objects[0].vault: "http://a" is not a vault, ` +
			"want https://NAME.vault.azure.net or NAME (3 to 24 letters, digits and single hyphens, a letter first)"},
	})
	request := mustParse(t, valid(pairs{"vault": "-", "secrets": "-", "objects": "[{secret: a, vault: Other-Vault}]"}), nil)
	if got, want := request.Objects[0].Vault, "https://other-vault.vault.azure.net"; got != want {
		t.Errorf("vault %q, want %q", got, want)
	}
}
