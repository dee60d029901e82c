package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/keyvault-csi/keyvault-csi/cmd/kvcsi/internal/cluster"
	"github.com/keyvault-csi/keyvault-csi/pkg/migrate"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// pluginName is the name of the program as kubectl finds it; krew writes the - of a plugin's name as _.
const pluginName = "kubectl-kvcsi"

// programName is what a user has typed: kubectl kvcsi if kubectl started the program.
func programName(path string) string {
	name := strings.TrimSuffix(filepath.Base(path), ".exe")
	if strings.HasPrefix(strings.ReplaceAll(name, "_", "-"), pluginName) {
		return "kubectl kvcsi"
	}
	return "kvcsi"
}

// kubeCommand is a command that asks a cluster. It has kubectl's flags beside its own.
type kubeCommand struct {
	command
	name            string // as a user types it
	flags           *pflag.FlagSet
	connection      *cluster.Flags
	driver          string
	driverNamespace string
}

func newKubeCommand(c command) *kubeCommand {
	k := &kubeCommand{command: c, name: c.flags.Name()}
	k.flags = pflag.NewFlagSet(k.name, pflag.ContinueOnError)
	k.flags.SetOutput(io.Discard)
	k.flags.SortFlags = false
	k.flags.StringVar(&k.driver, "driver", migrate.DriverName, "name of the driver")
	k.flags.StringVar(&k.driverNamespace, "driver-namespace", "", "namespace of the driver's pods; default: all, or keyvault-csi without the right to see all")
	return k
}

// parse reads the flags; k.connection has kubectl's. The text has a %[1]s for the name of the command.
func (k *kubeCommand) parse(text string) (exitCode int, err error) {
	own := k.flags.FlagUsages()
	k.connection = cluster.AddFlags(k.flags)
	switch err := k.flags.Parse(k.args); {
	case errors.Is(err, pflag.ErrHelp):
		theirs := pflag.NewFlagSet("", pflag.ContinueOnError)
		theirs.SortFlags = false
		cluster.AddFlags(theirs)
		fmt.Fprintf(k.stdout, text, k.name)
		fmt.Fprintf(k.stdout, "\nFlags:\n%s\nFlags as of kubectl:\n%s", own, theirs.FlagUsages())
		return exitOK, nil
	case err != nil:
		return exitUsage, fmt.Errorf("%w; see %s --help", err, k.name)
	}
	return parsed, nil
}

// errInterrupted replaces an answer that is not complete because of Ctrl-C.
var errInterrupted = errors.New("interrupted")

// asked is a command with its cluster, and what the answer lacks.
type asked struct {
	*cluster.Client
	*kubeCommand
	missing []string
}

func (k *kubeCommand) connect() (*asked, error) {
	client, err := k.connection.Connect()
	return &asked{Client: client, kubeCommand: k}, err
}

// miss notes what the answer lacks, once.
func (a *asked) miss(what string, err error) {
	line := what + ": " + volume.OneLine(err.Error(), volume.MaxText)
	if !slices.Contains(a.missing, line) {
		a.missing = append(a.missing, line)
	}
}

// sayMissing prints what the answer lacks.
func (a *asked) sayMissing() {
	for _, line := range a.missing {
		fmt.Fprintf(a.stderr, "%s: %s\n", a.name, line)
	}
}

// chartNamespace is where docs/install.md installs the driver.
const chartNamespace = "keyvault-csi"

// drivers returns the pod of the driver on each node. Without the right to list the pods of all namespaces it looks into one.
func (a *asked) drivers(ctx context.Context) (map[string]cluster.Driver, error) {
	drivers, err := a.Drivers(ctx, a.driverNamespace, a.driver)
	where := a.driverNamespace
	if errors.Is(err, cluster.ErrForbidden) && a.driverNamespace == "" {
		where = chartNamespace
		drivers, err = a.Drivers(ctx, where, a.driver)
	}
	if errors.Is(err, cluster.ErrForbidden) && where == chartNamespace {
		err = fmt.Errorf("%w; --driver-namespace names another one", err)
	}
	if err != nil {
		return nil, err
	}
	namespaces, nodes := map[string]bool{}, map[string]cluster.Driver{}
	for _, d := range drivers {
		namespaces[d.Pod.Metadata.Namespace] = true
		node := d.Pod.Spec.NodeName
		if other, twice := nodes[node]; node != "" && (!twice || d.Stays(other)) {
			nodes[node] = d
		}
	}
	switch {
	case len(nodes) == 0:
		return nil, fmt.Errorf("there is no privileged pod of the driver %s in %s (label app.kubernetes.io/component=csi-driver); "+
			"is it installed, and are --driver and --driver-namespace right?", a.driver, cmp.Or(where, "any namespace"))
	case len(namespaces) > 1:
		return nil, fmt.Errorf("privileged pods of the driver %s are in the namespaces %s; name the right one with --driver-namespace",
			a.driver, strings.Join(slices.Sorted(maps.Keys(namespaces)), " and "))
	}
	return nodes, nil
}

// pod reads one pod, and names others if there is none.
func (a *asked) pod(ctx context.Context, name string) (p cluster.Pod, err error) {
	p, err = a.Pod(ctx, a.Namespace, name)
	if !errors.Is(err, cluster.ErrNotFound) {
		return p, err
	}
	text := fmt.Sprintf("there is no pod %s in the namespace %s", name, a.Namespace)
	if pods, err := a.Pods(ctx, a.Namespace, ""); err == nil {
		if near := nearest(name, pods, a.driver); len(near) > 0 {
			text += "; there are " + strings.Join(near, ", ")
		} else {
			text += ", and none with a volume of " + a.driver + "; -n NAMESPACE names another"
		}
	}
	return p, errors.New(text)
}

// nearest returns at most three names of pods that are like the name: the names of the pods of a Deployment differ in the generated
// part. If no name is like it, it returns pods with a volume of the driver.
func nearest(name string, pods []cluster.Pod, driver string) (near []string) {
	var names, ours []string
	for _, p := range pods {
		names = append(names, p.Metadata.Name)
		if len(p.VolumesOf(driver)) > 0 {
			ours = append(ours, p.Metadata.Name)
		}
	}
	if one := volume.Nearest(name, names); one != "" {
		near = append(near, one)
	}
	for _, other := range names {
		if !slices.Contains(near, other) && (strings.HasPrefix(other, name) || strings.HasPrefix(name, other) || sameOwner(name, other)) {
			near = append(near, other)
		}
	}
	if len(near) == 0 {
		near = ours
	}
	return near[:min(3, len(near))]
}

// sameOwner reports whether two names differ in their last part, or in their last two, which a controller generates.
func sameOwner(a, b string) bool {
	for range 2 {
		i, j := strings.LastIndex(a, "-"), strings.LastIndex(b, "-")
		if i < 0 || j < 0 {
			return false
		}
		if a, b = a[:i], b[:j]; a == b {
			return true
		}
	}
	return false
}

// noVolume is the error about a pod without a volume of the driver.
func (a *asked) noVolume(p cluster.Pod) error {
	var others []string
	for _, v := range p.Spec.Volumes {
		if v.CSI != nil && !slices.Contains(others, v.CSI.Driver) {
			others = append(others, v.CSI.Driver)
		}
	}
	text := fmt.Sprintf("the pod %s/%s has no volume of %s", p.Metadata.Namespace, p.Metadata.Name, a.driver)
	if len(others) > 0 {
		text += "; it has volumes of " + strings.Join(others, ", ") + " (--driver)"
	}
	return errors.New(text)
}
