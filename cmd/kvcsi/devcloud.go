package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
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
func runDevCloud(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("kvcsi dev-cloud", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {} // asked for, it goes to stdout; after a mistake one line is enough
	var opts devcloud.Options
	flags.StringVar(&opts.Listen, "listen", "127.0.0.1:0", "`host:port` of the vaults and login hosts (HTTPS); port 0 is any free one")
	flags.StringVar(&opts.ProxyListen, "proxy-listen", "127.0.0.1:0", "`host:port` of the proxy that leads to them")
	flags.StringVar(&opts.AdminListen, "admin-listen", "127.0.0.1:0", "`host:port` of the admin API; it asks for no password")
	flags.StringVar(&opts.IMDSListen, "imds-listen", "127.0.0.1:0", "`host:port` of the instance metadata service")
	dir := flags.String("dir", "", "`folder` for ca.pem, env and token; default: a temporary one, removed at the end")
	empty := flags.Bool("empty", false, "start without the example vault; fill it by the admin API")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, devCloudUsage)
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return exitOK
	case err != nil:
		return exitUsage
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "kvcsi dev-cloud: unexpected argument %q\n", flags.Arg(0))
		return exitUsage
	}
	if err := devCloud(ctx, opts, *dir, *empty, stdout); err != nil {
		fmt.Fprintln(stderr, "kvcsi dev-cloud:", err)
		return exitError
	}
	return exitOK
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
	if err := devCloudScreen.Execute(stdout, newScreen(cloud, dir, seeded)); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// writeDevCloudFiles leaves what other programs need: the CA, the environment, and a service account token that plays
// the kubelet's.
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

// screen is what devCloudScreen shows.
type screen struct {
	Cloud                              *devcloud.Cloud
	Dir, Vault                         string
	Tenant, Principal, Secret          string
	Workload, Namespace, Account, Node string
	Seeded                             bool
}

func newScreen(cloud *devcloud.Cloud, dir string, seeded *devcloud.Seeded) screen {
	s := screen{Cloud: cloud, Dir: dir}
	if seeded == nil {
		return s
	}
	s.Seeded, s.Vault = true, seeded.Vault.URL()
	s.Tenant, s.Principal, s.Secret = devcloud.SeedTenant, devcloud.SeedServicePrincipal, devcloud.SeedClientSecret
	s.Workload, s.Namespace, s.Account = devcloud.SeedWorkload, devcloud.SeedNamespace, devcloud.SeedServiceAccount
	s.Node = devcloud.SeedManaged
	return s
}

var devCloudScreen = template.Must(template.New("screen").Parse(`The dev cloud is running. Interrupt it (Ctrl-C) to end it.

  proxy      {{.Cloud.ProxyURL}}
  HTTPS      https://{{.Cloud.TLSAddr}}   by the names of vaults and login hosts
  admin      {{.Cloud.AdminURL}}   GET / explains it
  metadata   {{.Cloud.IMDSURL}}
  files      {{.Dir}}   ca.pem, env{{if .Seeded}}, token{{end}}
{{- if .Seeded}}

  vault      {{.Vault}}
  tenant     {{.Tenant}}
  principal  {{.Principal}}   its secret: {{.Secret}}
  workload   {{.Workload}}   for the service account {{.Account}} in the namespace {{.Namespace}}
  managed    {{.Node}}   the node's own
{{- end}}

Point a driver, curl or any Azure SDK at it:

  . {{.Dir}}/env
{{- if .Seeded}}

Log in and read a secret, with the client secret or with a service account's token:

  LOGIN=https://login.microsoftonline.com/{{.Tenant}}/oauth2/v2.0/token
  SCOPE=https://vault.azure.net/.default
  TOKEN=$(curl -s $LOGIN -d grant_type=client_credentials -d scope=$SCOPE \
    -d client_id=$AZURE_CLIENT_ID --data-urlencode client_secret=$AZURE_CLIENT_SECRET | sed 's/.*"access_token":"//; s/".*//')
  curl -s -H "Authorization: Bearer $TOKEN" '{{.Vault}}/secrets/db-password?api-version=7.4'

  TOKEN=$(curl -s $LOGIN -d grant_type=client_credentials -d scope=$SCOPE -d client_id={{.Workload}} \
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
