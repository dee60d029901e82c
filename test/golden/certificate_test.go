package golden_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

const (
	firstVersion  = "0123456789abcdef0123456789abcdef"
	secondVersion = "fedcba9876543210fedcba9876543210"
)

// certificate is the files that the init container wrote for a certificate.
type certificate struct {
	key    string // PKCS#8, 64 columns
	leaf   string // PEM, 64 columns
	leaf76 string // the same in 76 columns, as with CERTS_KEYS
	cas    []string
	pfx    string // binary
	value  string // of the secret behind it
}

// addCertificate adds a certificate to the node's vault: leaf, two intermediates and the root, in this order.
func addCertificate(t *testing.T, n *node.Node, name string, o devcloud.CertificateOptions) certificate {
	t.Helper()
	if o.KeyType == "" {
		o.KeyType = devcloud.P256
	}
	if o.Order == "" {
		o.Order = devcloud.LeafFirst
	}
	o.Intermediates = 2
	made, err := n.Vault.SetCertificate(name, o)
	must(t, err)
	key, err := x509.MarshalPKCS8PrivateKey(made.Key)
	must(t, err)
	c := certificate{
		key: armor("PRIVATE KEY", key, 64), leaf: armor("CERTIFICATE", made.Leaf.Raw, 64), leaf76: armor("CERTIFICATE", made.Leaf.Raw, 76),
		value: made.Value,
	}
	for _, ca := range made.CAs {
		c.cas = append(c.cas, armor("CERTIFICATE", ca.Raw, 64))
	}
	if o.Order == devcloud.RootFirst {
		slices.Reverse(c.cas)
	}
	if o.ContentType == "" {
		pfx, err := base64.StdEncoding.DecodeString(made.Value)
		must(t, err)
		c.pfx = string(pfx)
	}
	return c
}

// chain is the leaf and then the others in the order of the file.
func (c certificate) chain() string { return c.leaf + strings.Join(c.cas, "") }

// armor encodes PEM without Go's encoder, which the driver uses.
func armor(kind string, der []byte, columns int) string {
	var b strings.Builder
	b.WriteString("-----BEGIN " + kind + "-----\n")
	for line := range slices.Chunk([]byte(base64.StdEncoding.EncodeToString(der)), columns) {
		b.Write(line)
		b.WriteByte('\n')
	}
	b.WriteString("-----END " + kind + "-----\n")
	return b.String()
}

// blocks splits PEM text into its blocks.
func blocks(t *testing.T, text string) (all []string) {
	t.Helper()
	for rest := []byte(text); len(rest) > 0; {
		block, behind := pem.Decode(rest)
		if block == nil {
			t.Fatalf("no PEM: %q", rest)
		}
		all = append(all, string(rest[:len(rest)-len(behind)]))
		rest = behind
	}
	return all
}

// TestDownloadCACertificates tests the global switch and the switch for a single secret, whose name keeps its hyphens and is
// case-insensitive.
func TestDownloadCACertificates(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	web := addCertificate(t, n, "My-Web-Tls", devcloud.CertificateOptions{})
	api := addCertificate(t, n, "api", devcloud.CertificateOptions{})
	both := func(webCerts, apiCerts string) files {
		return files{
			"secrets/My-Web-Tls": web.value, "keys/My-Web-Tls": web.key, "certs/My-Web-Tls": webCerts,
			"secrets/api": api.value, "keys/api": api.key, "certs/api": apiCerts,
		}
	}
	for name, row := range map[string]struct {
		attributes attributes
		want       files
	}{
		"by default":           {attributes{}, both(web.chain(), api.chain())},
		"true, in any case":    {attributes{"downloadCACertificates": "TRUE"}, both(web.chain(), api.chain())},
		"false, in any case":   {attributes{"downloadCACertificates": "False"}, both(web.leaf, api.leaf)},
		"not for one":          {attributes{"downloadCACertificates.MY-WEB-TLS": "false"}, both(web.leaf, api.chain())},
		"not for one, as is":   {attributes{"downloadCACertificates.My-Web-Tls": "FALSE"}, both(web.leaf, api.chain())},
		"not for one, lower":   {attributes{"downloadCACertificates.my-web-tls": "false"}, both(web.leaf, api.chain())},
		"only for one":         {attributes{"downloadCACertificates": "false", "downloadCACertificates.mY-wEB-tLS": "True"}, both(web.chain(), api.leaf)},
		"for each its own":     {attributes{"downloadCACertificates.API": "true", "downloadCACertificates.MY-WEB-TLS": "false"}, both(web.leaf, api.chain())},
		"all, with one not":    {attributes{"secrets": "*", "downloadCACertificates.API": "false"}, both(web.chain(), api.leaf)},
		"as the agent read it": {attributesOf(map[string]string{"VAULT_BASE_URL": node.VaultURL, "API_DOWNLOAD_CA_CERTIFICATE": "yes"}), both(web.chain(), api.leaf)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := attributes{"secrets": "My-Web-Tls;api", "chainOrder": "pfx"}
			maps.Copy(a, row.attributes)
			delete(a, "identity") // the node's identity replaces the recorded service principal
			gives(t, n, a, row.want)
		})
	}
}

// TestSavePFX tests the PFX file beside the key, in both folders.
func TestSavePFX(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	c := addCertificate(t, n, "web", devcloud.CertificateOptions{})
	n.Vault.SetSecret("plain", "value", devcloud.SecretOptions{})
	spaced := c.value[:70] + "\r\n \t" + c.value[70:] + "\n"
	n.Vault.SetSecret("spaced", spaced, devcloud.SecretOptions{ContentType: devcloud.PKCS12, Kid: node.VaultURL + "/keys/spaced/1", Managed: true})
	for name, row := range map[string]struct {
		secrets string
		want    files
	}{
		"default names": {"web;plain", files{
			"secrets/web": c.value, "keys/web": c.key, "keys/web.pfx": c.pfx, "certs/web": c.chain(), "secrets/plain": "value",
		}},
		"one file name": {"web::tls.pem", files{
			"secrets/web": c.value, "keys/tls.pem": c.key, "keys/tls.pem.pfx": c.pfx, "certs/tls.pem": c.chain(),
		}},
		"two file names": {"web::tls.crt:tls.key", files{
			"secrets/web": c.value, "certs_keys/tls.key": c.key, "certs_keys/tls.key.pfx": c.pfx, "certs_keys/tls.crt": c.chain(),
		}},
		"white space inside the base64": {"spaced", files{
			"secrets/spaced": spaced, "keys/spaced": c.key, "keys/spaced.pfx": c.pfx, "certs/spaced": c.chain(),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gives(t, n, attributes{"secrets": row.secrets, "savePFX": "True", "chainOrder": "pfx"}, row.want)
		})
	}
}

// TestPublicCertificates tests CERTS_KEYS: only the leaf, in lines of 76 columns, for any content of its secret.
func TestPublicCertificates(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	old := addCertificate(t, n, "web", devcloud.CertificateOptions{Version: firstVersion})
	web := addCertificate(t, n, "web", devcloud.CertificateOptions{Version: secondVersion})
	pemFile := addCertificate(t, n, "pem-file", devcloud.CertificateOptions{ContentType: devcloud.PEMFile})
	locked := addCertificate(t, n, "locked", devcloud.CertificateOptions{NotExportable: true})
	for name, row := range map[string]struct {
		attributes attributes
		want       files
	}{
		"each kind": {attributes{"certificates": "web;pem-file;locked"}, files{
			"certs/web": web.leaf76, "certs/pem-file": pemFile.leaf76, "certs/locked": locked.leaf76,
		}},
		"version":                        {attributes{"certificates": "web:" + firstVersion}, files{"certs/web": old.leaf76}},
		"the key file name is of no use": {attributes{"certificates": "web::web.crt:web.key:more"}, files{"certs/web.crt": web.leaf76}},
		"the later of two wins":          {attributes{"certificates": "web::x.pem;pem-file::x.pem"}, files{"certs/x.pem": pemFile.leaf76}},
		"it wins over secrets": {attributes{"secrets": "web", "certificates": "web"}, files{
			"secrets/web": web.value, "keys/web": web.key, "certs/web": web.leaf76,
		}},
		"it wins over secrets, by file name": {attributes{"secrets": "web::x.pem", "certificates": "pem-file::x.pem"}, files{
			"secrets/web": web.value, "keys/x.pem": web.key, "certs/x.pem": pemFile.leaf76,
		}},
		"not in certs_keys": {attributes{"secrets": "web::c:k", "certificates": "web::c"}, files{
			"secrets/web": web.value, "certs_keys/c": web.chain(), "certs_keys/k": web.key, "certs/c": web.leaf76,
		}},
		"no CAs, no keys, in no case": {attributes{"certificates": "web", "downloadCACertificates": "true", "savePFX": "true"}, files{
			"certs/web": web.leaf76,
		}},
		"empty": {attributes{"certificates": ""}, files{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			row.attributes["chainOrder"] = "pfx"
			gives(t, n, row.attributes, row.want)
		})
	}
}

// TestPublicCertificatesAlone: with SECRETS_KEYS unset the init container fetched every secret too, and so does a migrated volume. A volume
// with only the attribute certificates has only certificates, and needs no permission to read secrets.
func TestPublicCertificatesAlone(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	web := addCertificate(t, n, "web", devcloud.CertificateOptions{})
	n.Vault.SetSecret("plain", "value", devcloud.SecretOptions{})

	carried := attributesOf(map[string]string{"VAULT_BASE_URL": node.VaultURL + "/", "CERTS_KEYS": "web"})
	delete(carried, "identity")
	gives(t, n, carried, files{"secrets/plain": "value", "secrets/web": web.value, "keys/web": web.key, "certs/web": web.leaf76})

	n.Vault.Deny(node.WorkloadID)
	n.Vault.Grant(node.WorkloadID, devcloud.CertificatesGet)
	t.Run("by hand", func(t *testing.T) {
		gives(t, n, attributes{"certificates": "web"}, files{"certs/web": web.leaf76})
	})
}

// TestPEMCertificates: the init container failed at a certificate with the content type PEM. The driver splits key and chain like those of a
// PFX, and secrets/NAME has the text.
func TestPEMCertificates(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	rsa := addCertificate(t, n, "rsa", devcloud.CertificateOptions{ContentType: devcloud.PEMFile, KeyType: devcloud.RSA2048})
	ec := addCertificate(t, n, "ec", devcloud.CertificateOptions{ContentType: devcloud.PEMFile, Order: devcloud.RootFirst})
	gives(t, n, attributes{"secrets": "rsa;ec::tls.crt:tls.key", "chainOrder": "pfx"}, files{
		"secrets/rsa": rsa.value, "keys/rsa": rsa.key, "certs/rsa": rsa.chain(),
		"secrets/ec": ec.value, "certs_keys/tls.key": ec.key, "certs_keys/tls.crt": ec.chain(),
	})
}
