package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// errUsage is a bad flag: exit code 2.
var errUsage = errors.New("see keyvault-csi-sync --help")

// namespaceFile is where Kubernetes puts the namespace of a pod.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

type options struct {
	configFile    string
	volume        string
	name          string
	namespace     string
	kubeconfig    string
	httpAddress   string
	loggingFormat string
	verbosity     int
	check         bool
	version       bool
}

func parseFlags(args []string, out io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("keyvault-csi-sync", flag.ContinueOnError)
	f.SetOutput(out)
	f.StringVar(&o.configFile, "config", "/etc/keyvault-csi-sync/secrets.yaml", "`file` with the Secrets to keep; a change applies without a restart")
	f.StringVar(&o.volume, "volume", "/secrets", "`folder` of the volume of keyvault-csi.io with the files")
	f.StringVar(&o.name, "name", "keyvault-csi-sync", "`name` that marks the Secrets as kept by this one; unique in its namespace")
	f.StringVar(&o.namespace, "namespace", "", "`namespace` of the Secrets (default: that of the pod)")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "`file` to reach the API server (default: the service account of the pod)")
	f.StringVar(&o.httpAddress, "http-address", ":9809", "`address` of /healthz, /readyz and /metrics; empty: off")
	f.StringVar(&o.loggingFormat, "logging-format", "text", "`format` of the log: text or json")
	f.IntVar(&o.verbosity, "v", 0, "`verbosity` of the log; 4 shows more")
	f.BoolVar(&o.check, "check", false, "look at the Secrets once, and fail unless all are kept with this configuration")
	f.BoolVar(&o.version, "version", false, "print the version and exit")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return options{}, err
		}
		return options{}, fmt.Errorf("%w (%w)", err, errUsage)
	}
	if err := o.validate(f.Args()); err != nil {
		return options{}, fmt.Errorf("%w (%w)", err, errUsage)
	}
	return o, nil
}

func (o *options) validate(rest []string) error {
	if o.version {
		return nil
	}
	if o.namespace == "" {
		text, err := os.ReadFile(namespaceFile)
		if err != nil {
			return errors.New("--namespace is needed outside a pod")
		}
		o.namespace = strings.TrimSpace(string(text))
	}
	switch {
	case len(rest) > 0:
		return fmt.Errorf("%q is not a flag", rest[0])
	case o.loggingFormat != "text" && o.loggingFormat != "json":
		return fmt.Errorf("--logging-format: %q is neither text nor json", o.loggingFormat)
	case o.name == "" || len(validation.IsValidLabelValue(o.name)) > 0:
		return fmt.Errorf("--name: %q is not the value of a label", o.name)
	case len(validation.IsDNS1123Label(o.namespace)) > 0:
		return fmt.Errorf("--namespace: %q is not a namespace", o.namespace)
	}
	return nil
}
