package azure

import "testing"

func TestCloudByName(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, authority, suffix string
		want, err               string // authority and suffix
	}{
		{"AzurePublicCloud", "", "", "https://login.microsoftonline.com vault.azure.net", ""},
		{"azureusgovernmentcloud", "", "", "https://login.microsoftonline.us vault.usgovcloudapi.net", ""},
		{"AzureChinaCloud", "", "", "https://login.chinacloudapi.cn vault.azure.cn", ""},
		{"custom", "https://login.local/", ".Vault.Local.", "https://login.local vault.local", ""},
		{"AzurePublicCloud", "https://login.example.com", "", "https://login.example.com vault.azure.net", ""},
		{"custom", "", "vault.local", "", "the cloud custom needs an authority host and a vault DNS suffix"},
		{"custom", "https://login.local", "", "", "the cloud custom needs an authority host and a vault DNS suffix"},
		{"custom", "http://login.local", "vault.local", "", `the authority host "http://login.local" is not of the form https://HOST`},
		{"custom", "login.local", "vault.local", "", `the authority host "login.local" is not of the form https://HOST`},
		{"custom", "https://login.local", "https://vault.local", "", `the vault DNS suffix "https://vault.local" is not a DNS name such as vault.azure.net`},
		{"Azure", "", "", "", `unknown cloud "Azure"; known are AzurePublicCloud, AzureUSGovernmentCloud, AzureChinaCloud, custom`},
	} {
		cloud, err := CloudByName(test.name, test.authority, test.suffix)
		switch {
		case test.err != "":
			if err == nil || err.Error() != test.err {
				t.Errorf("%+v: got %v", test, err)
			}
		case err != nil || cloud.AuthorityHost+" "+cloud.VaultSuffix != test.want:
			t.Errorf("%+v: got %+v, %v", test, cloud, err)
		case cloud.FederationAudience == "":
			t.Errorf("%+v: no audience", test)
		}
	}
}

func TestCloudHolds(t *testing.T) {
	t.Parallel()
	cloud, err := CloudByName("AzurePublicCloud", "", "")
	if err != nil {
		t.Fatal(err)
	}
	for vault, want := range map[string]bool{
		"https://shop.vault.azure.net":          true,
		"http://shop.vault.azure.net":           false,
		"https://vault.azure.net":               false,
		"https://.vault.azure.net":              false,
		"https://a.b.vault.azure.net":           false,
		"https://shop.vault.azure.net.evil.com": false,
		"https://evil.com/.vault.azure.net":     false,
		"https://evil.com#.vault.azure.net":     false,
		"https://u@shop.vault.azure.net":        false,
		"https://shop.vault.azure.net:443":      false,
		"https://shop.vault.azure.net/":         false,
		"https://SHOP.vault.azure.net":          false,
		"shop.vault.azure.net":                  false,
		"https://shop\n.vault.azure.net":        false,
		"https://shop.vault.usgovcloudapi.net":  false,
	} {
		if got := cloud.Holds(vault); got != want {
			t.Errorf("%q: %v", vault, got)
		}
	}
}
