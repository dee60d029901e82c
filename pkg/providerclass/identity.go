package providerclass

import (
	"cmp"
	"errors"
	"strings"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// identity reads the pod and the login. The rules for ids, Secrets and tokens are those of package volume.
func (r *reader) identity() volume.Request {
	tenantName, tenant := r.tenant()
	login, ok := r.login()
	if !ok {
		return volume.Request{}
	}
	attributes := map[string]string{volume.AttributeIdentity: string(login.Kind)}
	parameter := map[string]string{volume.AttributeTenantID: tenantName, volume.AttributeClientID: ClientID}
	if login.Kind == volume.Managed {
		parameter[volume.AttributeClientID] = UserAssignedIdentityID
		parameter[volume.AttributeResourceID] = UserAssignedIdentityID
	}
	if tenant != "" {
		attributes[volume.AttributeTenantID] = tenant
	}
	if login.ID != "" {
		attributes[login.Attribute] = login.ID
	}
	for name, value := range r.parameters {
		if strings.HasPrefix(name, volume.KubeletPrefix) {
			attributes[name] = value
		}
	}
	secrets := map[string]string{}
	if login.Kind == volume.ServicePrincipal {
		secrets = r.secretLogin()
	}
	if tokens, given := r.secrets[volume.KubeletTokens]; given {
		secrets[volume.KubeletTokens] = tokens
	}
	request, err := volume.NewParser(r.options.Defaults).ParseIdentity(attributes, secrets)
	problems, _ := errors.AsType[volume.Problems](err)
	for _, problem := range problems {
		r.problem(cmp.Or(parameter[problem.Field], problem.Field), "%s", problem.Text)
	}
	return request
}

// tenant returns the tenant, and the parameter that has it.
func (r *reader) tenant() (name, tenant string) {
	name = TenantID
	if r.get(TenantID) == "" && r.get(OldTenantID) != "" {
		name = OldTenantID
	}
	switch tenant = r.get(name); {
	case tenant == "":
		r.missing(TenantID, ", the Entra ID tenant of the vault")
	case strings.EqualFold(tenant, "adfs"):
		r.problem(name, "adfs is not supported, this driver speaks with Entra ID only")
		return name, ""
	}
	return name, tenant
}

func (r *reader) flag(name string) bool {
	value, ok := Flag(r.get(name))
	if !ok {
		r.problem(name, "%s is neither true nor false", quote(r.get(name)))
	}
	return value
}

// login returns the identity of the class; false after a problem.
func (r *reader) login() (login Login, ok bool) {
	const federate = "; write the client id of the identity as " + ClientID +
		", and give the identity a federated credential for the pod's service account"
	before := len(r.problems)
	login = Modes{
		PodIdentity: r.flag(UsePodIdentity), ManagedIdentity: r.flag(UseVMManagedIdentity), TokenProxy: r.flag(UseAzureTokenProxy),
		UserAssignedIdentityID: r.get(UserAssignedIdentityID), ClientID: r.get(ClientID),
	}.Login()
	if on, _ := Flag(r.get(usePodServiceAccountAnnotation)); on {
		r.problem(usePodServiceAccountAnnotation, "is not supported, this driver does not read service accounts; write the client id as %s", ClientID)
	}
	switch {
	case len(r.problems) > before:
	case login.Conflict:
		r.problem(UseVMManagedIdentity, "only one of %s, %s and %s can be true", UsePodIdentity, UseVMManagedIdentity, UseAzureTokenProxy)
	case login.Unsupported == UsePodIdentity:
		r.problem(UsePodIdentity, "is not supported, AAD Pod Identity is archived%s", federate)
	case login.Unsupported == UseAzureTokenProxy:
		r.problem(UseAzureTokenProxy, "is not supported, this driver has no AKS identity bindings%s", federate)
	case login.Kind == volume.ServicePrincipal:
		r.checkSecret()
	}
	return login, len(r.problems) == before
}

// secretLogin returns the keys of the Secret that the provider reads, in any case, without the empty ones.
func (r *reader) secretLogin() map[string]string {
	keys := map[string]string{}
	for key, value := range r.secrets {
		isLogin := strings.EqualFold(key, volume.SecretClientID) || strings.EqualFold(key, volume.SecretClientSecret)
		if isLogin && strings.TrimSpace(value) != "" {
			keys[key] = value
		}
	}
	return keys
}

// checkSecret reports what a login by the Secret lacks.
func (r *reader) checkSecret() {
	has := map[string]bool{}
	for key := range r.secretLogin() {
		has[strings.ToLower(key)] = true
	}
	if len(has) == 0 {
		r.missing(ClientID, ", and the pod names no Secret with clientid and clientsecret: write "+ClientID+" (workload identity), "+
			UseVMManagedIdentity+`: "true" (identity of the node), or set nodePublishSecretRef in the pod's volume`)
		return
	}
	for _, key := range []string{volume.SecretClientID, volume.SecretClientSecret} {
		if !has[key] {
			r.problem("nodePublishSecretRef["+key+"]", "is missing; add the key to the Secret, or write %s in the class for a workload identity", ClientID)
		}
	}
}
