package providerclass

import (
	"cmp"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Options are the operator's settings.
type Options struct {
	Defaults volume.Defaults
	Cloud    string      // as in the flag --cloud; empty means AzurePublicCloud
	Mode     fs.FileMode // of files without filePermission

	// FileOrder keeps the certificates of a PEM in file order, as the provider does with --construct-pem-chain=false.
	FileOrder bool

	// SeparateFiles writes the certificates and the key of a PEM beside it as well, as the provider does with
	// --write-cert-and-key-in-separate-files.
	SeparateFiles bool
}

// Request turns the parameters of a class, merged with the attributes of the pod as the Secrets Store CSI Driver sends them, into
// a request. The secrets are those of the nodePublishSecretRef, and may hold the tokens of the service account.
//
// The error is [volume.Problems]: all problems at once. A Field is a parameter of the class, with the position of an object.
func Request(parameters, secrets map[string]string, o Options) (volume.Request, error) {
	o.Defaults.VaultSuffix = cmp.Or(o.Defaults.VaultSuffix, "vault.azure.net")
	o.Defaults.CSIDriver = storeDriver
	o.Cloud = cmp.Or(o.Cloud, Clouds()[0])
	r := &reader{parameters: parameters, secrets: secrets, options: o}
	if r.tooLarge(); len(r.problems) > 0 {
		return volume.Request{}, r.problems
	}
	vault := r.vault()
	request := r.identity()
	request.FromClass = true
	request.Objects = r.objects(vault)
	if len(r.problems) > 0 {
		return volume.Request{}, r.problems
	}
	return request, nil
}

// storeDriver is the CSIDriver object whose volumes have classes.
const storeDriver = "secrets-store.csi.k8s.io"

// reader reads one class and collects its problems.
type reader struct {
	parameters, secrets map[string]string
	options             Options
	problems            volume.Problems
}

func (r *reader) problem(field, format string, args ...any) {
	r.problems = append(r.problems, volume.Problem{Field: field, Text: fmt.Sprintf(format, args...)})
}

func (r *reader) get(name string) string { return strings.TrimSpace(r.parameters[name]) }

func (r *reader) tooLarge() {
	size := 0
	for name, value := range r.parameters {
		size += len(name) + len(value)
	}
	if size > volume.MaxAttributeBytes {
		r.problem("parameters", "hold %d bytes, more than %d", size, volume.MaxAttributeBytes)
	}
}

// missing reports a parameter that is not there, and the misspelt name that was probably meant.
func (r *reader) missing(name, remedy string) {
	written := slices.Sorted(maps.Keys(r.parameters))
	r.problem(name, "is missing%s%s", remedy, hint(name, written, Parameters()))
}

// hint names what was probably meant as the wanted name, as the end of a sentence.
func hint(wanted string, written, known []string) string {
	if len(written) > maxHints {
		return ""
	}
	near := Misspelt(wanted, written, known)
	if near == "" {
		return ""
	}
	return "; " + quote(near) + " is not read, did you mean " + wanted + "?"
}

// maxHints bounds the names that are compared, which takes most of the time of an error.
const maxHints = 100

// vault returns the URL of the vault.
func (r *reader) vault() string {
	r.cloud()
	switch name := r.get(KeyvaultName); {
	case name == "":
		r.missing(KeyvaultName, "")
	case !ValidVaultName(name):
		r.problem(KeyvaultName, "%s is not the name of a vault, 3 to 24 letters, digits and hyphens", quote(name))
	}
	return "https://" + strings.ToLower(r.get(KeyvaultName)) + "." + r.options.Defaults.VaultSuffix
}

// customCloud is the name in --cloud of a cloud that flags describe.
const customCloud = "custom"

// cloud compares the class's cloud with the only one that this driver has.
func (r *reader) cloud() {
	text := r.get(CloudName)
	cloud, known := Cloud(text)
	name := cloud // in --cloud
	if cloud == StackCloud {
		name = customCloud
	}
	switch {
	case text == "" || known && strings.EqualFold(name, r.options.Cloud):
	case !known:
		r.problem(CloudName, "%s is not a cloud of this driver, %s", quote(text), strings.Join(append(Clouds(), StackCloud), ", "))
	case strings.EqualFold(r.options.Cloud, customCloud):
		r.problem(CloudName, "%s is another cloud than that of this driver, which runs with --cloud custom; remove it, or write %s", quote(text), StackCloud)
	default:
		r.problem(CloudName, "%s is another cloud than that of this driver, %s; remove it, or install the driver with --cloud %s", quote(text), r.options.Cloud, name)
	}
}
