package azure

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// Cloud is one Azure cloud: its authority and the DNS suffix of its vaults.
type Cloud struct {
	// Name as in the flag --cloud: "AzurePublicCloud".
	Name string
	// AuthorityHost is the https URL of Entra ID (or another authority), without a trailing slash.
	AuthorityHost string
	// VaultSuffix is the DNS name below which every vault is one label: "vault.azure.net".
	VaultSuffix string
	// FederationAudience is the audience that Entra ID expects in a service account token.
	FederationAudience string
}

// Resource is the audience of an access token for the cloud's vaults, as an URL: "https://vault.azure.net".
func (c Cloud) Resource() string { return "https://" + c.VaultSuffix }

// CustomCloud is the name of the cloud that an operator describes by its authority host and vault suffix.
const CustomCloud = "custom"

// clouds lists the clouds that Azure runs, and the custom one.
func clouds() []Cloud {
	return []Cloud{
		{"AzurePublicCloud", "https://login.microsoftonline.com", "vault.azure.net", "api://AzureADTokenExchange"},
		{"AzureUSGovernmentCloud", "https://login.microsoftonline.us", "vault.usgovcloudapi.net", "api://AzureADTokenExchangeUSGov"},
		{"AzureChinaCloud", "https://login.chinacloudapi.cn", "vault.azure.cn", "api://AzureADTokenExchangeChina"},
		{Name: CustomCloud, FederationAudience: "api://AzureADTokenExchange"},
	}
}

// CloudByName returns the cloud with that name, ignoring case. A non-empty authorityHost or vaultSuffix replaces the
// cloud's own. The cloud "custom" needs both. The error is one line that fits behind a flag's name.
func CloudByName(name, authorityHost, vaultSuffix string) (Cloud, error) {
	cloud, err := namedCloud(name)
	if err != nil {
		return Cloud{}, err
	}
	if cloud.Name == CustomCloud && (authorityHost == "" || vaultSuffix == "") {
		return Cloud{}, errors.New("the cloud custom needs an authority host and a vault DNS suffix")
	}
	if authorityHost != "" {
		cloud.AuthorityHost = strings.TrimRight(authorityHost, "/")
	}
	if vaultSuffix != "" {
		cloud.VaultSuffix = strings.ToLower(strings.Trim(vaultSuffix, "."))
	}
	return cloud, cloud.Check()
}

func namedCloud(name string) (Cloud, error) {
	var known []string
	for _, cloud := range clouds() {
		if strings.EqualFold(name, cloud.Name) {
			return cloud, nil
		}
		known = append(known, cloud.Name)
	}
	return Cloud{}, fmt.Errorf("unknown cloud %q; known are %s", name, strings.Join(known, ", "))
}

var dnsName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$`)

// Check rejects a mistyped flag, which would send requests to a wrong host.
func (c Cloud) Check() error {
	u, err := url.Parse(c.AuthorityHost)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("the authority host %q is not of the form https://HOST", c.AuthorityHost)
	case !dnsName.MatchString(c.VaultSuffix):
		return fmt.Errorf("the vault DNS suffix %q is not a DNS name such as vault.azure.net", c.VaultSuffix)
	}
	return nil
}

// Holds reports whether vault has the canonical form "https://LABEL.<suffix>" with exactly one label. It is the
// second line of defence after volume.Parse: a token of this cloud must not be sent to another host.
func (c Cloud) Holds(vault string) bool {
	label, found := strings.CutSuffix(strings.TrimPrefix(vault, "https://"), "."+c.VaultSuffix)
	return found && strings.HasPrefix(vault, "https://") && vaultLabel.MatchString(label)
}

var vaultLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
