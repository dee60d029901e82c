package migrate

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/keyvault-csi/keyvault-csi/pkg/providerclass"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// classReader turns the parameters of a class into attributes. The volumeAttributes of the pod override them.
type classReader struct {
	plan       *plan
	class      *class
	parameters *fields
	csi        *yaml.Node // of the volume that uses the class
	at         *yaml.Node // the volume

	found []providerclass.Object // the objects of the class
	list  []*yaml.Node           // and what they become
}

func newClassReader(p *plan, c *class, v podVolume, csi *yaml.Node) *classReader {
	r := &classReader{plan: p, class: c, parameters: newFields(), csi: csi, at: v.node}
	r.parameters.add(c.object, get(c.node, "spec", "parameters"))
	r.parameters.add(p.object, get(csi, "volumeAttributes"))
	r.parameters.get(attributeClass)
	return r
}

// problem reports a parameter, in its line, or something about the class in the line of the volume.
func (r *classReader) problem(name, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if placeholder.MatchString(text) && !strings.Contains(text, buildOrRender) && !strings.Contains(text, templateAdvice) {
		text += "; write its value, or " + buildOrRender
	}
	r.plan.blocked = true
	if f, there := r.parameters.entries[name]; there && f.object != r.plan.object {
		r.plan.findings = append(r.plan.findings, f.object.finding(f.key.Line, NotMigrated, "%s (for the %s)", text, r.plan.workload))
		return
	}
	at := r.at
	if f, there := r.parameters.entries[name]; there {
		at = f.key
	}
	r.plan.problem(at, "%s: %s", r.class, text)
}

func (r *classReader) flag(name string) bool {
	text := r.parameters.get(name)
	value, ok := providerclass.Flag(text)
	switch {
	case ok:
	case isPlaceholder(text):
		r.problem(name, "%s is %s: its value decides which identity reads the vault; write it, or "+buildOrRender, name, printable(text))
	default:
		r.problem(name, "%s %s is neither true nor false", name, quote(printable(text)))
	}
	return value
}

func (r *classReader) settings() *settings {
	s := &settings{}
	for _, f := range r.parameters.odd { // the API server takes texts only
		r.problem(f.key.Value, "%s is not a text", printable(f.key.Value))
	}
	if r.plan.blocked {
		return s
	}
	s.set(volume.AttributeVault, r.vault())
	r.identity(s)
	switch tenant := r.parameters.get(providerclass.TenantID, providerclass.OldTenantID); {
	case strings.EqualFold(tenant, "adfs"):
		r.problem(providerclass.TenantID, "tenantID adfs: this driver speaks with Entra ID only")
	case tenant != "":
		s.set(volume.AttributeTenantID, tenant)
	default:
		r.class.lost(r.plan, get(r.class.node, "spec", "parameters"), "tenantID is missing: the provider refuses such a class, this driver asks the vault for its tenant")
	}
	r.objects(s)
	return s
}

// vault returns the full URL, which shows the cloud.
func (r *classReader) vault() string {
	name := r.parameters.get(providerclass.KeyvaultName)
	switch {
	case name == "":
		r.problem("", "keyvaultName is missing%s", r.misspelt(providerclass.KeyvaultName))
	case !providerclass.ValidVaultName(placeholder.ReplaceAllString(name, "aaa")):
		r.problem(providerclass.KeyvaultName, "keyvaultName %s is not the name of a vault, 3 to 24 letters, digits and hyphens", quote(printable(name)))
	}
	name = lower(name)
	file := r.parameters.get(providerclass.CloudEnvFileName)
	text := r.parameters.get(providerclass.CloudName)
	known, ok := providerclass.Cloud(text)
	switch {
	case text == "":
		known = publicCloud
	case known == providerclass.StackCloud:
		from := ""
		if file != "" {
			from = " from " + printable(file)
		}
		r.plan.note(r.at, "cloudName AzureStackCloud: install the driver with --cloud custom, --authority-host and --vault-dns-suffix%s", from)
		return name
	case !ok && isPlaceholder(text):
		r.problem(providerclass.CloudName, "cloudName is %s: its value decides the vault's address; write it, or "+buildOrRender, printable(text))
	case !ok:
		r.problem(providerclass.CloudName, "cloudName %s is not a cloud of this driver%s", quote(printable(text)), didYouMean(text, providerclass.Clouds()))
	}
	for _, cloud := range clouds {
		if cloud.name == known {
			return "https://" + name + "." + cloud.suffix
		}
	}
	return name
}

// misspelt names a parameter that is there and was probably meant.
func (r *classReader) misspelt(name string) string {
	return misspelt(name, r.parameters.names, providerclass.Parameters())
}

func misspelt(name string, written, known []string) string {
	other := providerclass.Misspelt(name, written, known)
	if other == "" {
		return ""
	}
	return "; " + printable(other) + " is not read, did you mean " + name + "?"
}

// identity sets the login of the class, or that of the volume's Secret.
func (r *classReader) identity(s *settings) {
	secret := text1(get(r.csi, nodeSecret, "name"))
	if ref := get(r.csi, nodeSecret); ref != nil && (secret == "" || get(ref, "name").ShortTag() != "!!str") {
		r.problem("", "%s of the volume names no Secret", nodeSecret)
	}
	modes := providerclass.Modes{
		ClientID:               r.parameters.get(providerclass.ClientID),
		UserAssignedIdentityID: r.parameters.get(providerclass.UserAssignedIdentityID),
		PodIdentity:            r.flag(providerclass.UsePodIdentity),
		TokenProxy:             r.flag(providerclass.UseAzureTokenProxy),
		ManagedIdentity:        r.flag(providerclass.UseVMManagedIdentity),
	}
	if modes.UserAssignedIdentityID != "" && !modes.ManagedIdentity {
		r.plan.note(r.at, "userAssignedIdentityID goes: the provider uses it with useVMManagedIdentity only")
	}
	login := modes.Login()
	switch {
	case login.Conflict:
		r.problem("", "usePodIdentity, useVMManagedIdentity and useAzureTokenProxy: only one of them can be true")
		return
	case login.Unsupported == providerclass.UseAzureTokenProxy:
		r.problem(login.Unsupported, "useAzureTokenProxy: this driver has no AKS identity bindings; use a federated credential (clientID) and migrate again")
		return
	case login.Unsupported == providerclass.UsePodIdentity:
		login = providerclass.Login{Kind: volume.Workload, Attribute: volume.AttributeClientID, ID: "<client-id>"}
		r.class.lost(r.plan, r.parameters.entries[providerclass.UsePodIdentity].key,
			"usePodIdentity: AAD Pod Identity is archived; write the client id of the identity as clientID, in place of <client-id>, and give the identity a federated credential for the service account %s",
			printable(r.plan.serviceAccount()))
	case login.Kind == volume.Managed:
		if login.Attribute == volume.AttributeResourceID {
			r.plan.note(r.at, "userAssignedIdentityID is a resource id, which the provider does not know; it becomes the attribute resourceID")
		}
		nodeIdentityNote(r.plan, r.at, volume.Managed)
	case login.Kind == volume.ServicePrincipal && secret == "":
		r.problem("", "it names no identity: neither clientID nor useVMManagedIdentity, and the volume has no %s%s", nodeSecret, r.misspelt(providerclass.ClientID))
	case login.Kind == volume.ServicePrincipal:
		s.secretRef = secret
	}
	s.set(volume.AttributeIdentity, string(login.Kind))
	if login.ID != "" {
		s.set(login.Attribute, login.ID)
	}
}

// ignored reports the entries that were not read. The provider does not read them either, so they had no effect, but their author may have
// expected one.
func (r *classReader) ignored() {
	for _, name := range r.parameters.unread() {
		f := r.parameters.entries[name]
		r.class.losses++
		r.plan.findings = append(r.plan.findings, f.object.finding(f.key.Line, Lost, "the parameter %s is not one of the provider, and had no effect%s",
			printable(name), didYouMean(name, providerclass.Parameters())))
	}
	for _, part := range []struct {
		node  *yaml.Node
		known []string
		where string
		owner *object
	}{
		{get(r.class.node, "spec"), []string{"provider", "parameters", "secretObjects"}, "spec", r.class.object},
		{r.csi, []string{"driver", "readOnly", "fsType", nodeSecret, "volumeAttributes"}, "csi", r.plan.object},
		{get(r.csi, nodeSecret), []string{"name"}, nodeSecret, r.plan.object},
	} {
		entries := newFields()
		entries.add(part.owner, part.node)
		entries.get(part.known...)
		for _, name := range entries.unread() {
			r.class.losses++
			r.plan.findings = append(r.plan.findings, part.owner.finding(entries.entries[name].key.Line, Lost, "%s.%s is not known, and had no effect%s",
				part.where, printable(name), didYouMean(name, part.known)))
		}
	}
}
