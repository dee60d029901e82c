package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/migrate"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const renderUsage = `kvcsi render checks every volume of this driver in manifests as the driver would, without a cluster and without Azure,
and shows the files that each would have. Problems are told with file, line and attribute. With --fetch it reads the
vaults with your own login (DefaultAzureCredential: environment, Azure CLI and others) and shows the files that are there
now, by size and hash.

Usage: kvcsi render -f FILE|FOLDER|- [-f ...] [FLAGS]

Exit code: 0 if every volume is valid (and was read), 1 if one is not, 2 for a wrong command line.

Flags:
`

// renderOptions is the command line of kvcsi render.
type renderOptions struct {
	names                manifestNames
	cloud, authority     string
	suffix, identityKind string
	fetch, reveal        bool
}

// runRender judges the volumes and shows them.
func runRender(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var o renderOptions
	flags := flag.NewFlagSet("kvcsi render", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, renderUsage)
		flags.PrintDefaults()
	}
	flags.Var(&o.names, "f", "`file` or folder with manifests, or - for standard input; may be repeated")
	flags.StringVar(&o.cloud, "cloud", "AzurePublicCloud", "the driver's --cloud: `name` of the cloud")
	flags.StringVar(&o.suffix, "vault-dns-suffix", "", "the driver's --vault-dns-suffix")
	flags.StringVar(&o.authority, "authority-host", "", "the driver's --authority-host")
	flags.StringVar(&o.identityKind, "default-identity", "", "the driver's --default-identity: managed or cluster")
	flags.BoolVar(&o.fetch, "fetch", false, "read the vaults with your own login, show sizes and hashes")
	flags.BoolVar(&o.reveal, "reveal", false, "with --fetch: show the values as well")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "kvcsi render: unexpected argument %q\n", flags.Arg(0))
		return exitUsage
	case len(o.names) == 0:
		fmt.Fprintln(stderr, "kvcsi render: name the manifests with -f FILE, -f FOLDER or -f -")
		return exitUsage
	case o.reveal && !o.fetch:
		fmt.Fprintln(stderr, "kvcsi render: --reveal goes with --fetch")
		return exitUsage
	}
	cloud, defaults, err := o.defaults()
	if err != nil {
		fmt.Fprintln(stderr, "kvcsi render:", err)
		return exitUsage
	}
	files, err := o.names.read(stdin)
	if err != nil {
		fmt.Fprintln(stderr, "kvcsi render:", err)
		return exitError
	}
	volumes, err := migrate.Volumes(files, defaults)
	if err != nil {
		fmt.Fprintln(stderr, "kvcsi render:", err)
		return exitError
	}
	if len(volumes) == 0 {
		fmt.Fprintln(stderr, "kvcsi render: found no volume of the driver", migrate.DriverName)
	}
	show, err := o.shower(ctx, cloud, stdout)
	if err != nil {
		fmt.Fprintln(stderr, "kvcsi render:", err)
		return exitError
	}
	return render(volumes, show, stderr)
}

// shower is how a valid volume is shown: by what it asks for, or by what a vault answers.
func (o renderOptions) shower(ctx context.Context, cloud azure.Cloud, stdout io.Writer) (func(migrate.Volume) error, error) {
	if !o.fetch {
		return func(v migrate.Volume) error {
			showVolume(v, stdout)
			return nil
		}, nil
	}
	from, err := newFetcher(ctx, cloud)
	if err != nil {
		return nil, err
	}
	return func(v migrate.Volume) error { return showContent(ctx, v, from, o.reveal, stdout) }, nil
}

func (o renderOptions) defaults() (azure.Cloud, volume.Defaults, error) {
	cloud, err := azure.CloudByName(o.cloud, o.authority, o.suffix)
	if err != nil {
		return cloud, volume.Defaults{}, err
	}
	switch kind := volume.IdentityKind(o.identityKind); kind {
	case "", volume.Managed, volume.Cluster:
		return cloud, volume.Defaults{VaultSuffix: cloud.VaultSuffix, Identity: kind}, nil
	}
	return cloud, volume.Defaults{}, fmt.Errorf("--default-identity %q is neither managed nor cluster", o.identityKind)
}

// render shows each valid volume, and tells what is wrong with the others.
func render(volumes []migrate.Volume, show func(migrate.Volume) error, stderr io.Writer) int {
	code := exitOK
	for _, v := range volumes {
		for _, problem := range v.Problems {
			fmt.Fprintf(stderr, "%s:%d: %s, volume %s: %s\n", v.File, problem.Line, v.Object, v.Name, problem.Text)
			code = exitError
		}
		if len(v.Problems) > 0 {
			continue
		}
		if err := show(v); err != nil {
			fmt.Fprintf(stderr, "%s:%d: %s, volume %s: %v\n", v.File, v.Line, v.Object, v.Name, err)
			code = exitError
		}
	}
	return code
}

// showVolume prints who would read and the files: certain ones, and those that show when the vault is asked.
func showVolume(v migrate.Volume, stdout io.Writer) {
	fmt.Fprintf(stdout, "%s:%d: %s, volume %s\n", v.File, v.Line, v.Object, v.Name)
	fmt.Fprintf(stdout, "  identity  %s\n", identityLine(v.Request.Identity))
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for _, folder := range v.Request.Folders {
		fmt.Fprintf(table, "  0755\t%s/\n", folder)
	}
	for _, o := range v.Request.Objects {
		showObject(o, table)
	}
	_ = table.Flush() // an error of stdout shows nowhere better
}

func showObject(o volume.Object, table io.Writer) {
	source := strings.TrimPrefix(o.Vault, "https://") + " " + string(o.Kind)
	if o.Name != "" {
		source += " " + o.Name
	}
	if o.Version != "" {
		source += " " + o.Version
	}
	optional := ""
	if o.Optional {
		optional = ", if it exists"
	}
	for _, output := range o.Outputs {
		fmt.Fprintf(table, "  %04o\t%s\t%s of %s%s\n", modeOf(output), output.Path, output.Part, source, optional)
	}
	unless := ", if it backs a certificate"
	if o.NeedsCertificate {
		unless = ""
	}
	for _, output := range o.Split {
		fmt.Fprintf(table, "  %04o\t%s\t%s of %s%s\n", modeOf(output), output.Path, output.Part, source, unless)
	}
	if s := o.Selection; s != nil {
		which := "every enabled one"
		if s.Prefix != "" {
			which += " whose name begins with " + s.Prefix
		}
		if len(s.Tags) > 0 {
			which += ", with the tags " + tags(s.Tags)
		}
		each := s.Each("NAME")
		certificate := which + " that backs a certificate"
		for _, output := range each.Outputs {
			fmt.Fprintf(table, "  %04o\t%s\t%s of %s, %s\n", modeOf(output), output.Path, output.Part, source, which)
		}
		for _, output := range each.Split {
			fmt.Fprintf(table, "  %04o\t%s\t%s of %s, %s\n", modeOf(output), output.Path, output.Part, source, certificate)
		}
	}
}

func tags(wanted map[string]string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		all = append(all, name+"="+wanted[name])
	}
	return strings.Join(all, ", ")
}

// modeOf is the mode without an fsGroup; with one, files are 0640 and folders 2750.
func modeOf(output volume.Output) uint32 {
	if output.Mode == 0 {
		return 0o644
	}
	return uint32(output.Mode.Perm())
}

func identityLine(id volume.Identity) string {
	parts := []string{string(id.Kind)}
	for _, part := range []struct{ name, value string }{
		{"client", id.ClientID}, {"object", id.ObjectID}, {"resource", id.ResourceID}, {"tenant", id.TenantID},
	} {
		if part.value != "" && part.value != placeholderID {
			parts = append(parts, part.name+" "+part.value)
		}
	}
	return strings.Join(parts, ", ")
}

// placeholderID stands where the manifests do not hold the Secret.
const placeholderID = "00000000-0000-0000-0000-000000000000"
