package login

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// clusterFile has the fields of azure.json, the configuration of Kubernetes' Azure cloud provider, that this package
// needs.
// https://cloud-provider-azure.sigs.k8s.io/install/configs
type clusterFile struct {
	Cloud                string `json:"cloud"`
	TenantID             string `json:"tenantId"`
	ClientID             string `json:"aadClientId"`
	ClientSecret         string `json:"aadClientSecret"`
	CertificatePath      string `json:"aadClientCertPath"`
	CertificatePassword  string `json:"aadClientCertPassword"`
	UseManagedIdentity   bool   `json:"useManagedIdentityExtension"`
	UserAssignedIdentity string `json:"userAssignedIdentityID"`
	UseFederatedIdentity bool   `json:"useFederatedWorkloadIdentityExtension"`
}

// cluster completes an identity of kind cluster from the cluster's file: with a client secret, a client certificate,
// or the id of a managed identity.
func (l *Logins) cluster(id volume.Identity) (volume.Identity, error) {
	fail := func(format string, args ...any) (volume.Identity, error) {
		return id, volume.Errorf(volume.ErrPrecondition, "identity cluster: %s", fmt.Sprintf(format, args...))
	}
	if l.options.ClusterFile == "" || l.options.ReadFile == nil {
		return fail("this driver has no file with the cluster's login")
	}
	content, err := l.options.ReadFile(l.options.ClusterFile)
	if err != nil {
		return fail("the file %s cannot be read: %v; the driver needs the node's file there (--cluster-identity-file)", l.options.ClusterFile, err)
	}
	file, err := parseClusterFile(content)
	if err != nil {
		return fail("the file %s %v", l.options.ClusterFile, err)
	}
	if problem := file.check(l.options.Cloud); problem != "" {
		return fail("the file %s: %s", l.options.ClusterFile, problem)
	}
	if id.TenantID == "" && !id.DetectTenant {
		id.TenantID = strings.ToLower(file.TenantID)
	}
	switch {
	case file.managed() && strings.Contains(strings.ToLower(file.UserAssignedIdentity), "/subscriptions/"):
		id.ResourceID = file.UserAssignedIdentity
	case file.managed():
		id.ClientID = strings.ToLower(file.UserAssignedIdentity)
	case file.ClientSecret != "":
		id.ClientID, id.ClientSecret = strings.ToLower(file.ClientID), volume.NewSecret([]byte(file.ClientSecret))
	default:
		certificate, err := l.options.ReadFile(file.CertificatePath)
		if err != nil {
			return fail("the file %s: aadClientCertPath: %s cannot be read: %v", l.options.ClusterFile, file.CertificatePath, err)
		}
		if len(certificate) == 0 {
			return fail("the file %s: aadClientCertPath: %s is empty", l.options.ClusterFile, file.CertificatePath)
		}
		id.ClientID, id.ClientCertificate = strings.ToLower(file.ClientID), volume.NewSecret(certificate)
		id.ClientCertificatePassword = volume.NewSecret([]byte(file.CertificatePassword))
	}
	return id, nil
}

// parseClusterFile reads the JSON. Its error has the position, but no content.
func parseClusterFile(content []byte) (file clusterFile, err error) {
	err = json.Unmarshal(bytes.TrimPrefix(content, []byte("\ufeff")), &file)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
		return file, fmt.Errorf("has a value of a wrong type: %s must be %s", wrong.Field, jsonType(wrong.Type.Kind().String()))
	}
	if err != nil {
		return file, errors.New("is not a JSON object")
	}
	for _, text := range []*string{
		&file.Cloud, &file.TenantID, &file.ClientID, &file.CertificatePath, &file.UserAssignedIdentity,
	} {
		*text = strings.TrimSpace(*text)
	}
	return file, nil
}

func jsonType(kind string) string {
	if kind == "bool" {
		return "true or false"
	}
	return "a " + kind
}

// managed reports whether the cluster uses a managed identity. AKS writes that twice: as the flag, and as an
// application and a secret that are both "msi".
func (f clusterFile) managed() bool {
	return f.UseManagedIdentity || strings.EqualFold(f.ClientID, "msi")
}

// check returns the first problem, which begins with its field; empty if there is none.
func (f clusterFile) check(cloud azure.Cloud) string {
	switch {
	case !f.isOf(cloud):
		return fmt.Sprintf("cloud: is %s, and the driver is set up for %s (--cloud)", quoted(f.Cloud), cloud.Name)
	case f.TenantID != "" && !guid.MatchString(f.TenantID) && !domain.MatchString(f.TenantID):
		return "tenantId: " + quoted(f.TenantID) + " is not a GUID or a domain name"
	case f.UseFederatedIdentity:
		return "useFederatedWorkloadIdentityExtension: a login by the cluster's own federated token is not supported; use identity workload"
	case f.managed():
		if id := f.UserAssignedIdentity; id != "" && !guid.MatchString(id) && !isResourceID(id) {
			return "userAssignedIdentityID: " + quoted(id) + " is neither a client id nor a resource id"
		}
		return ""
	case f.ClientID == "":
		return "aadClientId: is missing, and useManagedIdentityExtension is not true"
	case !guid.MatchString(f.ClientID):
		return "aadClientId: " + quoted(f.ClientID) + " is not a GUID"
	case f.ClientSecret == "" && f.CertificatePath == "":
		return "aadClientSecret: is missing, and so is aadClientCertPath"
	case f.ClientSecret == "" && !isPrintable(f.CertificatePath):
		return "aadClientCertPath: " + quoted(f.CertificatePath) + " is not the path of a file"
	}
	return ""
}

func isResourceID(text string) bool {
	return strings.Contains(strings.ToLower(text), "/subscriptions/") && isPrintable(text)
}

// isPrintable reports whether a path or an id can be part of a line of text unchanged.
func isPrintable(text string) bool {
	const longest = 4095 // of a path; a resource id is shorter
	return len(text) <= longest && utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

// isOf reports whether the file names the cloud. The file has more names than the flag. A custom cloud may have any
// name.
func (f clusterFile) isOf(cloud azure.Cloud) bool {
	name := f.Cloud
	switch strings.ToLower(name) {
	case "azurecloud":
		name = "AzurePublicCloud"
	case "azureusgovernment":
		name = "AzureUSGovernmentCloud"
	}
	return f.Cloud == "" || cloud.Name == azure.CustomCloud || strings.EqualFold(name, cloud.Name)
}

// quoted quotes a short text that holds no secret.
func quoted(text string) string {
	const longest = 80
	if len(text) > longest {
		text = text[:longest]
	}
	return fmt.Sprintf("%q", text)
}
