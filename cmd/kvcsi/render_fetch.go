package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/migrate"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// fetcher reads the objects of a volume.
type fetcher interface {
	Fetch(ctx context.Context, r volume.Request) (volume.Content, error)
}

// newFetcher logs in as the user of kvcsi, by what DefaultAzureCredential supports: the environment, a workload identity,
// the Azure CLI and others.
func newFetcher(ctx context.Context, where azure.Cloud) (fetcher, error) {
	credential, err := azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{
		ClientOptions:              policy.ClientOptions{Cloud: cloud.Configuration{ActiveDirectoryAuthorityHost: where.AuthorityHost + "/"}},
		AdditionallyAllowedTenants: []string{"*"}, // the tenant of the vault, which the user has named
	})
	if err != nil {
		return nil, err
	}
	// One token, because the error of the login lists everything that it tried, over a dozen lines.
	ctx, cancel := context.WithTimeout(ctx, volume.DefaultTimeout)
	defer cancel()
	if _, err := credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{where.Resource() + "/.default"}}); err != nil {
		return nil, errors.New("you are not logged in: use az login, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET")
	}
	return keyvault.New(keyvault.Options{Cloud: where, Credential: credential, Proxy: http.ProxyFromEnvironment})
}

// showContent prints the files that the volume would have now: sizes and hashes, and with reveal the values.
func showContent(ctx context.Context, v migrate.Volume, from fetcher, reveal bool, stdout io.Writer) error {
	if len(v.Filled) > 0 {
		return fmt.Errorf("%s is a placeholder, and --fetch needs the value; give the rendered manifests", v.Filled[0])
	}
	ctx, cancel := context.WithTimeout(ctx, v.Request.Timeout)
	defer cancel()
	v.Request.AllVersions = true
	content, err := from.Fetch(ctx, v.Request)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s:%d: %s, volume %s\n", v.File, v.Line, v.Object, v.Name)
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fileMode, folderMode := defaultModes(false)
	for _, folder := range content.Folders {
		fmt.Fprintf(table, "  %04o\t%s/\n", folderMode, folder)
	}
	for _, file := range content.Files {
		value := file.Data.Reveal()
		fmt.Fprintf(table, "  %04o\t%s\t%d bytes\tsha256:%x\n", cmp.Or(file.Mode, fileMode), file.Path, len(value), sha256.Sum256(value))
	}
	_ = table.Flush() // an error of stdout cannot be shown better
	showVersions(content, stdout)
	for _, note := range slices.Concat(content.Notes, content.Gaps) {
		fmt.Fprintf(stdout, "  note: %s\n", note)
	}
	if !reveal {
		return nil
	}
	for _, file := range content.Files {
		fmt.Fprintf(stdout, "\n  %s\n    %s\n", file.Path, strings.ReplaceAll(legible(file.Data.Reveal()), "\n", "\n    "))
	}
	return nil
}

// showVersions prints what a manifest of the volume would say.
func showVersions(content volume.Content, stdout io.Writer) {
	if len(content.Versions) == 0 {
		return
	}
	fmt.Fprintf(stdout, "  versions, fetched %s\n", content.Fetched.UTC().Format(time.RFC3339))
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for _, v := range content.Versions {
		version := v.Version
		if v.Absent {
			version = "absent"
		}
		ends := ""
		if !v.Expires.IsZero() {
			ends += "  expires " + v.Expires.UTC().Format(time.RFC3339)
		}
		if !v.NotAfter.IsZero() {
			ends += "  valid until " + v.NotAfter.UTC().Format(time.RFC3339)
		}
		of := sourceOf(volume.Object{Vault: v.Vault, Kind: v.Kind, Name: v.Name})
		fmt.Fprintf(table, "  %s\t%s\t%s%s\n", v.Source, of, version, ends)
	}
	_ = table.Flush()
}

// legible returns a value as it is if a terminal can show it, else in base64.
func legible(value []byte) string {
	text := string(value)
	if utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' && r != '\t' }) {
		return strings.TrimSuffix(text, "\n")
	}
	return "base64: " + base64.StdEncoding.EncodeToString(value)
}
