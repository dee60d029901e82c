package driver

import (
	"strings"
	"testing"
)

func TestNewChecksItsConfig(t *testing.T) {
	t.Parallel()
	const required = "a version, a node id, a policy, a fetcher, a store and a registry are needed"
	long := "/" + strings.Repeat("x", 107)
	for name, tc := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"valid":                 {func(*Config) {}, ""},
		"no name":               {func(c *Config) { c.Name = "" }, `the driver's name "" is not a domain name of at most 63 characters`},
		"bad name":              {func(c *Config) { c.Name = "a/b" }, `the driver's name "a/b" is not a domain name of at most 63 characters`},
		"no version":            {func(c *Config) { c.Version = "" }, required},
		"no node":               {func(c *Config) { c.NodeID = "" }, required},
		"no endpoint":           {func(c *Config) { c.Endpoint = "" }, `the endpoint "" is not of the form unix:///path`},
		"tcp":                   {func(c *Config) { c.Endpoint = "tcp://:1" }, `the endpoint "tcp://:1" is not of the form unix:///path`},
		"relative endpoint":     {func(c *Config) { c.Endpoint = "unix://x" }, `the endpoint "unix://x" is not of the form unix:///path`},
		"long endpoint":         {func(c *Config) { c.Endpoint = "unix://" + long }, `the path of the endpoint "unix://` + long + `" is longer than 107 bytes`},
		"relative registration": {func(c *Config) { c.RegistrationSocket = "x" }, `the registration socket "x" is not an absolute path`},
		"long registration":     {func(c *Config) { c.RegistrationSocket = long }, `the registration socket "` + long + `" is longer than 107 bytes`},
		"no kubelet root":       {func(c *Config) { c.KubeletRoot = "" }, `the kubelet's root "" is not an absolute path`},
		"relative kubelet CSI":  {func(c *Config) { c.KubeletCSISocket = "x" }, `the kubelet's CSI socket "x" is not an absolute path`},
		"long kubelet CSI": {
			func(c *Config) { c.KubeletRoot, c.RegistrationSocket = long[:90], "/reg.sock" },
			`the kubelet's CSI socket "` + long[:90] + `/plugins/keyvault-csi.io/csi.sock" is longer than 107 bytes; use a shorter name of the driver`,
		},
		"no policy":   {func(c *Config) { c.Policy = nil }, required},
		"no fetcher":  {func(c *Config) { c.Fetcher = nil }, required},
		"no store":    {func(c *Config) { c.Store = nil }, required},
		"no registry": {func(c *Config) { c.Registry = nil }, required},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := testConfig("/run", newFakes())
			tc.change(&c)
			_, err := New(c)
			if got := text(err); got != tc.want {
				t.Errorf("New = %q, want %q", got, tc.want)
			}
		})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
