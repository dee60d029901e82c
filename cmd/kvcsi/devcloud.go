package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

const devCloudUsage = `kvcsi dev-cloud runs a Key Vault, an Entra ID and an instance metadata service on this machine, until it is
interrupted. Unmodified clients reach them under the names they have in Azure, by HTTPS_PROXY and SSL_CERT_FILE.

Usage: kvcsi dev-cloud [FLAGS]

Flags:
`

// runDevCloud serves until ctx ends.
func runDevCloud(ctx context.Context, c command) (exitCode int, err error) {
	var opts devcloud.Options
	c.flags.StringVar(&opts.Listen, "listen", "", "`host:port` of the vaults and login hosts (HTTPS); default: a free port of the loopback interface, as for the next three")
	c.flags.StringVar(&opts.ProxyListen, "proxy-listen", "", "`host:port` of the proxy that leads to them")
	c.flags.StringVar(&opts.AdminListen, "admin-listen", "", "`host:port` of the admin API; it asks for no password")
	c.flags.StringVar(&opts.IMDSListen, "imds-listen", "", "`host:port` of the instance metadata service")
	dir := c.flags.String("dir", "", "`folder` for ca.pem, env and token; default: a temporary one, removed at the end")
	empty := c.flags.Bool("empty", false, "start without the example vault; fill it by the admin API")
	code, err := c.parse(func() {}) // one line is enough for a wrong flag
	if code == exitOK {
		c.printHelp(c.stdout, devCloudUsage)
	}
	if code != parsed {
		return code, err
	}
	if err := devCloud(ctx, opts, *dir, *empty, c.stdout); err != nil {
		return exitError, err
	}
	return exitOK, nil
}

func devCloud(ctx context.Context, opts devcloud.Options, dir string, empty bool, stdout io.Writer) (err error) {
	cloud, err := devcloud.Start(ctx, opts)
	if err != nil {
		return err
	}
	defer cloud.Close()
	if dir == "" {
		if dir, err = os.MkdirTemp("", "kvcsi-dev-cloud-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	} else if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var seeded *devcloud.Seeded
	if !empty {
		if seeded, err = devcloud.Seed(cloud); err != nil {
			return err
		}
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if err := writeDevCloudFiles(dir, cloud, seeded); err != nil {
		return err
	}
	screen := map[string]any{"Cloud": cloud, "Dir": dir, "Seeded": seeded}
	if err := devCloudScreen.Execute(stdout, screen); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// writeDevCloudFiles writes what other programs need: the CA, the environment, and a service account token as the
// kubelet gets it.
func writeDevCloudFiles(dir string, cloud *devcloud.Cloud, seeded *devcloud.Seeded) error {
	ca := filepath.Join(dir, "ca.pem")
	env := []string{"HTTPS_PROXY=" + cloud.ProxyURL(), "KVCSI_ADMIN_URL=" + cloud.AdminURL()}
	for _, reader := range []string{"SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"} { // Go, curl, Python, Node
		env = append(env, reader+"="+ca)
	}
	type file struct{ name, text string }
	files := []file{{"ca.pem", string(cloud.CA())}}
	if seeded != nil {
		env = append(env, "AZURE_TENANT_ID="+devcloud.SeedTenant, "AZURE_CLIENT_ID="+devcloud.SeedServicePrincipal,
			"AZURE_CLIENT_SECRET="+devcloud.SeedClientSecret)
		token, err := seeded.Issuer.Token(devcloud.ServiceAccountToken{
			Namespace: devcloud.SeedNamespace, ServiceAccount: devcloud.SeedServiceAccount, Life: 24 * time.Hour,
		})
		if err != nil {
			return err
		}
		files = append(files, file{"token", token})
	}
	files = append(files, file{"env", "export " + strings.Join(env, "\nexport ") + "\n"}) // last: it names the others
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f.name), []byte(f.text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

var devCloudScreen = template.Must(template.New("screen").Parse(`The dev cloud is running. Interrupt it (Ctrl-C) to end it.

  proxy      {{.Cloud.ProxyURL}}
  HTTPS      https://{{.Cloud.TLSAddr}}   by the names of vaults and login hosts
  admin      {{.Cloud.AdminURL}}   GET / explains it
  metadata   {{.Cloud.IMDSURL}}
  files      {{.Dir}}   ca.pem, env{{if .Seeded}}, token{{end}}
{{- if .Seeded}}

  vault      {{.Seeded.Vault.URL}}
  tenant     ` + devcloud.SeedTenant + `
  principal  ` + devcloud.SeedServicePrincipal + `   its secret: ` + devcloud.SeedClientSecret + `
  workload   ` + devcloud.SeedWorkload + `   for the service account ` + devcloud.SeedServiceAccount + ` in the namespace ` + devcloud.SeedNamespace + `
  managed    ` + devcloud.SeedManaged + `   the node's own
{{- end}}

Point a driver, curl or any Azure SDK at it:

  . {{.Dir}}/env
{{- if .Seeded}}

Log in and read a secret, with the client secret or with a service account's token:

  LOGIN=https://login.microsoftonline.com/` + devcloud.SeedTenant + `/oauth2/v2.0/token
  SCOPE=https://vault.azure.net/.default
  TOKEN=$(curl -s $LOGIN -d grant_type=client_credentials -d scope=$SCOPE \
    -d client_id=$AZURE_CLIENT_ID --data-urlencode client_secret=$AZURE_CLIENT_SECRET | sed 's/.*"access_token":"//; s/".*//')
  curl -s -H "Authorization: Bearer $TOKEN" '{{.Seeded.Vault.URL}}/secrets/db-password?api-version=7.4'

  TOKEN=$(curl -s $LOGIN -d grant_type=client_credentials -d scope=$SCOPE -d client_id=` + devcloud.SeedWorkload + ` \
    -d client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer \
    --data-urlencode client_assertion@{{.Dir}}/token | sed 's/.*"access_token":"//; s/".*//')

Rotate it, make the vault throttle, count the requests:

  curl -s {{.Cloud.AdminURL}}/rotate -d '{"vault":"shop","kind":"secrets","name":"db-password"}'
  curl -s {{.Cloud.AdminURL}}/faults -d '{"action":"throttle","host":"shop","times":3,"retryAfter":"5s"}'
  curl -s {{.Cloud.AdminURL}}/counts
{{- else}}

It is empty. The admin API fills it:

  curl -s {{.Cloud.AdminURL}}
{{- end}}
`))
