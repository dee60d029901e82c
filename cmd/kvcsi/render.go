package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/migrate"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const renderUsage = `kvcsi render checks every volume of this driver in manifests as the driver would, without a cluster and without Azure,
and shows the files that each would have. Problems are shown with file, line and attribute. With --fetch it reads the
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
	readWrite            bool // the driver's --allow-read-write-requests; of explain only
}

// runRender checks the volumes and shows them.
func runRender(ctx context.Context, c command) (exitCode int, err error) {
	var o renderOptions
	c.flags.Var(&o.names, "f", "`file` or folder with manifests, or - for standard input; may be repeated")
	c.flags.StringVar(&o.cloud, "cloud", "AzurePublicCloud", "the driver's --cloud: `name` of the cloud")
	c.flags.StringVar(&o.suffix, "vault-dns-suffix", "", "the driver's --vault-dns-suffix")
	c.flags.StringVar(&o.authority, "authority-host", "", "the driver's --authority-host")
	c.flags.StringVar(&o.identityKind, "default-identity", "", "the driver's --default-identity: managed or cluster")
	c.flags.BoolVar(&o.fetch, "fetch", false, "read the vaults with your own login, show sizes and hashes")
	c.flags.BoolVar(&o.reveal, "reveal", false, "with --fetch: show the values as well")
	if code, err := c.parse(func() { c.printHelp(c.stderr, renderUsage) }); code != parsed {
		return code, err
	}
	switch {
	case len(o.names) == 0:
		return exitUsage, errNoManifests
	case o.reveal && !o.fetch:
		return exitUsage, errors.New("--reveal goes with --fetch")
	}
	cloud, defaults, err := o.defaults()
	if err != nil {
		return exitUsage, err
	}
	files, err := o.names.read(c.stdin)
	if err != nil {
		return exitError, err
	}
	volumes, err := migrate.Volumes(files, defaults)
	if err != nil {
		return exitError, err
	}
	if len(volumes) == 0 {
		fmt.Fprintln(c.stderr, c.flags.Name()+": found no volume of the driver", migrate.DriverName)
	}
	show := func(v migrate.Volume) error {
		var text strings.Builder
		showVolume(v, &text)
		_, err := v.Placeholders.WriteString(c.stdout, text.String())
		return err
	}
	if o.fetch {
		fetcher, err := newFetcher(ctx, cloud)
		if err != nil {
			return exitError, err
		}
		show = func(v migrate.Volume) error { return showContent(ctx, v, fetcher, o.reveal, c.stdout) }
	}
	return render(volumes, show, c.stderr), nil
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

// render shows the valid volumes and prints the problems of the others.
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

// showVolume prints the identity and the files of a volume, including those that depend on what the vault holds.
func showVolume(v migrate.Volume, stdout io.Writer) {
	fmt.Fprintf(stdout, "%s:%d: %s, volume %s\n", v.File, v.Line, v.Object, v.Name)
	showRequest(v, false, stdout)
}

// showRequest prints what showVolume does below the name of the volume. fsGroup means that the pod has one.
func showRequest(v migrate.Volume, fsGroup bool, stdout io.Writer) {
	fileMode, folderMode := defaultModes(fsGroup)
	fmt.Fprintf(stdout, "  identity  %s\n", identityLine(v.Request.Identity))
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for _, folder := range v.Request.Folders {
		fmt.Fprintf(table, "  %04o\t%s/\n", folderMode, folder)
	}
	var last *volume.ValueFile
	for _, o := range v.Request.Objects {
		if o.In != nil && o.In != last {
			fmt.Fprintf(table, "  %04o\t%s\t%s file of\n", cmp.Or(o.In.Mode, fileMode), o.In.Path, o.In.Format)
		}
		last = o.In
		showObject(o, fileMode, table)
	}
	for _, m := range v.Request.Manifests {
		with := "their versions"
		if m.Tags {
			with += " and tags"
		}
		fmt.Fprintf(table, "  %04o\t%s\tmanifest of the objects above, with %s\n", cmp.Or(m.Mode, fileMode), m.Path, with)
	}
	_ = table.Flush() // an error of stdout cannot be shown better
}

func showObject(o volume.Object, fileMode fs.FileMode, table io.Writer) {
	of := o // the object of the outputs
	show := func(outputs []volume.Output, condition string) {
		for _, output := range outputs {
			what := string(output.Part)
			if output.Part == volume.PartField {
				what += fmt.Sprintf(" %q", output.Pointer)
			}
			what += " of " + sourceOf(o)
			if output.Part == volume.PartPFX && o.Password != nil {
				what += ", with the password in " + sourceOf(*o.Password) + " (" + string(o.PFXProfile) + ")"
			}
			if of.In != nil {
				fmt.Fprintf(table, "  \t\t  %s: %s%s\n", of.Entry, what, condition)
				continue
			}
			fmt.Fprintf(table, "  %04o\t%s\t%s%s\n", cmp.Or(output.Mode, fileMode), output.Path, what, condition)
		}
	}
	if o.Optional {
		show(o.Outputs, ", if it exists")
	} else {
		show(o.Outputs, "")
	}
	if o.NeedsCertificate {
		show(o.Split, "")
	} else {
		show(o.Split, ", if it backs a certificate")
	}
	if s := o.Selection; s != nil {
		which := ", every enabled one"
		if s.Prefix != "" {
			which += " whose name begins with " + s.Prefix
		}
		if len(s.Tags) > 0 {
			which += ", with the tags " + tags(s.Tags)
		}
		each := s.Each("NAME")
		if o.In != nil {
			each = s.Each(s.Prefix + "NAME") // whose entry shows how names are made
			of = each
		}
		show(each.Outputs, which)
		show(each.Split, which+" that backs a certificate")
	}
}

// sourceOf returns the vault, the kind, the name and the version of an object.
func sourceOf(o volume.Object) string {
	source := strings.TrimPrefix(o.Vault, "https://") + " " + string(o.Kind)
	if o.Name != "" {
		source += " " + o.Name
	}
	if o.Version != "" {
		source += " " + o.Version
	}
	return source
}

func tags(wanted map[string]string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		all = append(all, name+"="+wanted[name])
	}
	return strings.Join(all, ", ")
}

// defaultModes are what stat(1) shows of the files and folders without a mode of their own.
func defaultModes(fsGroup bool) (file, folder fs.FileMode) {
	if fsGroup {
		return 0o640, 0o2750
	}
	return 0o644, 0o755
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

// placeholderID is the client id if the manifests do not hold the Secret.
const placeholderID = "00000000-0000-0000-0000-000000000000"
