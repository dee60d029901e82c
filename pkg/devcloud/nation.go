package devcloud

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
)

// nation is one of Azure's clouds: the suffix of its vaults and the hosts of its Entra ID.
type nation struct {
	suffix  string   // "vault.azure.net"
	login   string   // the host that a vault's challenge names
	aliases []string // other login hosts
	sts     string   // host in the issuer of access tokens (version 1)
}

// resource is the audience of the access tokens for the vaults of the cloud.
func (n nation) resource() string { return "https://" + n.suffix }

func (n nation) issuer(tenant string) string { return "https://" + n.sts + "/" + tenant + "/" }

func (n nation) loginHosts() []string { return append([]string{n.login}, n.aliases...) }

func (o Options) nations() ([]nation, error) {
	nations := []nation{
		{"vault.azure.net", "login.microsoftonline.com", []string{"login.windows.net", "login.microsoft.com"}, "sts.windows.net"},
		{"vault.usgovcloudapi.net", "login.microsoftonline.us", nil, "sts.windows.net"},
		{"vault.azure.cn", "login.chinacloudapi.cn", []string{"login.partner.microsoftonline.cn"}, "sts.chinacloudapi.cn"},
	}
	suffix, login := strings.ToLower(o.CustomVaultSuffix), strings.ToLower(o.CustomLoginHost)
	switch {
	case (suffix == "") != (login == ""):
		return nil, errors.New("devcloud: a custom cloud needs both a vault suffix and a login host")
	case suffix != "":
		nations = append(nations, nation{suffix: suffix, login: login, sts: login})
	}
	return nations, nil
}

// vaultNation returns the cloud of a vault's host, which has one label before the suffix.
func (c *Cloud) vaultNation(host string) (nation, bool) {
	_, suffix, _ := strings.Cut(host, ".")
	for _, n := range c.nations {
		if n.suffix == suffix {
			return n, true
		}
	}
	return nation{}, false
}

func (c *Cloud) loginNation(host string) (nation, bool) {
	for _, n := range c.nations {
		if slices.Contains(n.loginHosts(), host) {
			return n, true
		}
	}
	return nation{}, false
}

// resolves returns an error for a name that Azure's DNS would not resolve.
func (c *Cloud) resolves(host string) error {
	if _, ok := c.loginNation(host); ok {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.vaults[host] == nil {
		return fmt.Errorf("lookup %s: no such host", host)
	}
	return nil
}

// serveTLS serves the request with the vault or the login host that it names.
func (c *Cloud) serveTLS(w http.ResponseWriter, r *http.Request) {
	if c.serviceOf(r) == ServiceLogin {
		c.serveLogin(w, r)
		return
	}
	c.serveVault(w, r)
}

// hostOf is the lower-case host of a request without its port.
func hostOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	return strings.ToLower(host)
}
