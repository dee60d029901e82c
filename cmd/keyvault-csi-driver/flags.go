package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/driver"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/providerclass"
	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// options is the command line, most of it in the configuration of the package that it is for.
type options struct {
	driver   driver.Config
	keyvault keyvault.Options
	class    providerclass.Options

	providerSocket    string
	constructPEMChain bool

	cloud, authorityHost, vaultSuffix, caFile string
	selinuxLabel, policyFile, loggingFormat   string
	verbosity                                 int
	version                                   bool
}

// errUsage marks a command line that cannot be used: one line on standard error and exit code 2.
var errUsage = errors.New("see --help")

const defaultDriverName = "keyvault-csi.io"

func parseFlags(args []string, stderr io.Writer) (options, error) {
	var o options
	fs := o.flags()
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fs.SetOutput(stderr)
		fmt.Fprintln(stderr, "keyvault-csi-driver gives pods of this node Azure Key Vault secrets and certificates as files in memory.")
		fs.PrintDefaults()
		return o, err
	case err == nil && fs.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case err == nil && !o.version:
		err = o.check()
	}
	if err != nil {
		err = fmt.Errorf("%w (%w)", err, errUsage)
	}
	return o, err
}

func (o *options) flags() *flag.FlagSet {
	d, k := &o.driver, &o.keyvault
	fs := flag.NewFlagSet("keyvault-csi-driver", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // the flag package prints the usage after an error
	fs.StringVar(&d.Endpoint, "endpoint", "unix:///csi/csi.sock", "CSI `socket` (made with mode 0600; a stale one is replaced)")
	fs.StringVar(&d.Name, "driver-name", defaultDriverName, "CSI driver `name`")
	fs.StringVar(&d.NodeID, "node-id", os.Getenv("NODE_NAME"), "`name` of this node; default $NODE_NAME")
	fs.StringVar(&d.KubeletRoot, "kubelet-root", "/var/lib/kubelet", "the kubelet's `folder`; targets outside it are refused")
	fs.StringVar(&d.RegistrationSocket, "registration-socket", "", "`path` of the plugin registration socket for the kubelet, "+
		"e.g. /registration/keyvault-csi.io-reg.sock; empty = off")
	fs.StringVar(&d.KubeletCSISocket, "kubelet-csi-socket", "", "`path` of the CSI socket as the kubelet sees it; "+
		"default <kubelet-root>/plugins/<driver-name>/csi.sock")
	fs.StringVar(&o.providerSocket, "provider-socket", "", "`path` of the socket on which the Secrets Store CSI Driver finds its provider azure, "+
		"e.g. /provider/azure.sock; empty = off")
	fs.BoolVar(&o.constructPEMChain, "provider-construct-pem-chain", true, "order the certificates of a PEM by their key identifiers "+
		"for the Secrets Store CSI Driver; false = file order")
	fs.BoolVar(&o.class.SeparateFiles, "provider-write-cert-and-key-in-separate-files", false, "write NAME.crt and NAME.key beside the PEM "+
		"for the Secrets Store CSI Driver")
	fs.StringVar(&d.HTTPAddress, "http-address", ":9808", "`address` of /healthz, /readyz, /metrics and /volumes; empty = off")
	fs.StringVar(&o.cloud, "cloud", "AzurePublicCloud", "AzurePublicCloud, AzureUSGovernmentCloud, AzureChinaCloud or custom")
	fs.StringVar(&o.authorityHost, "authority-host", "", "`URL` of Entra ID; default the cloud's")
	fs.StringVar(&o.vaultSuffix, "vault-dns-suffix", "", "DNS `suffix` of the vaults; default the cloud's")
	fs.StringVar(&o.caFile, "ca-bundle", "", "PEM `file` of certificate authorities, in addition to the system's (SSL_CERT_FILE works too)")
	fs.StringVar(&k.ClusterFile, "cluster-identity-file", "/etc/kubernetes/azure.json", "JSON `file` with the cluster's own login, "+
		"for identity cluster; read again when it changes")
	fs.StringVar((*string)(&d.Defaults.Identity), "default-identity", "", "`identity` of a pod that names none: cluster or managed; empty = none")
	fs.StringVar(&o.policyFile, "policy-file", "", "YAML `file` with the rules of who may use which identity; read again when it changes; "+
		"until it is valid for the first time, every volume is refused; without a file, workload and servicePrincipal are allowed everywhere, managed and cluster nowhere")
	fs.DurationVar(&d.Defaults.RotationInterval, "rotation-interval", 2*time.Minute, "`age` from which a volume is fetched again; 0 = never")
	fs.StringVar((*string)(&d.Defaults.ChangeDetection), "default-change-detection", string(volume.DetectByReading), "how the refresh of a pod that sets none "+
		"finds changes: read = read every object; list = list the vault and read what has changed, which needs the permission to list")
	fs.DurationVar(&k.MountMaxAge, "mount-max-age", 10*time.Second, "maximum `age` of a value, fetched for another pod of the same identity, "+
		"that a first mount may use; 0 = always ask the vault")
	fs.DurationVar(&k.LastKnownGood, "last-known-good", 0, "maximum `age` of a value that a first mount may use while the vault cannot be reached; 0 = off")
	d.Limits.Bytes = tmpfs.DefaultMaxBytes
	fs.Func("max-volume-bytes", "maximum content of one volume in `bytes` (suffixes Ki, Mi, Gi); its tmpfs is sized for two sets (default 1Mi)",
		func(text string) (err error) {
			d.Limits.Bytes, err = parseBytes(text)
			return err
		})
	fs.IntVar(&d.Limits.Files, "max-volume-files", tmpfs.DefaultMaxFiles, "maximum number of `files` of one volume")
	fs.BoolVar(&d.AllowReadWrite, "allow-read-write-requests", false, "accept volumes without readOnly: true; only for csi-sanity, "+
		"because containers can then write while the driver writes")
	fs.StringVar(&o.selinuxLabel, "selinux-label", defaultSELinuxLabel(), "SELinux `label` of every file; empty = none; "+
		"default "+containerFileLabel+" where SELinux is on")
	fs.StringVar(&k.APIVersion, "vault-api-version", "", "Key Vault api-version, for clouds with an older version; default the SDK's")
	fs.StringVar(&o.loggingFormat, "logging-format", "text", "text or json")
	fs.IntVar(&o.verbosity, "v", 0, "log `level`, as klog's")
	fs.BoolVar(&o.version, "version", false, "print the version and exit")
	return fs
}

// check returns an error for the first flag that cannot be used, and looks the cloud up.
func (o *options) check() (err error) {
	d, k := &o.driver, &o.keyvault
	identities := []volume.IdentityKind{"", volume.Cluster, volume.Managed}
	for _, c := range []struct {
		ok         bool
		flag, text string
	}{
		{strings.HasPrefix(d.Endpoint, "unix:///"), "endpoint", fmt.Sprintf("%q is not unix:// and an absolute path", d.Endpoint)},
		{d.Name != "", "driver-name", "is empty"},
		{d.NodeID != "", "node-id", "is empty, and so is $NODE_NAME; give the name of this node"},
		{absolute(d.KubeletRoot), "kubelet-root", fmt.Sprintf("%q is not an absolute path", d.KubeletRoot)},
		{d.RegistrationSocket == "" || absolute(d.RegistrationSocket), "registration-socket", fmt.Sprintf("%q is not an absolute path", d.RegistrationSocket)},
		{o.providerSocket == "" || absolute(o.providerSocket), "provider-socket", fmt.Sprintf("%q is not an absolute path", o.providerSocket)},
		{absolute(k.ClusterFile), "cluster-identity-file", fmt.Sprintf("%q is not an absolute path", k.ClusterFile)},
		{slices.Contains(identities, d.Defaults.Identity), "default-identity", fmt.Sprintf("%q is neither cluster nor managed", d.Defaults.Identity)},
		{o.policyFile == "" || absolute(o.policyFile), "policy-file", fmt.Sprintf("%q is not an absolute path", o.policyFile)},
		{
			d.Defaults.RotationInterval == 0 || d.Defaults.RotationInterval >= volume.MinRotationInterval,
			"rotation-interval", fmt.Sprintf("%s is less than %s (0 = never)", d.Defaults.RotationInterval, volume.MinRotationInterval),
		},
		{
			d.Defaults.ChangeDetection == volume.DetectByReading || d.Defaults.ChangeDetection == volume.DetectByListing,
			"default-change-detection", fmt.Sprintf("%q is neither read nor list", d.Defaults.ChangeDetection),
		},
		{k.MountMaxAge >= 0, "mount-max-age", fmt.Sprintf("%s is negative", k.MountMaxAge)},
		{k.LastKnownGood >= 0, "last-known-good", fmt.Sprintf("%s is negative", k.LastKnownGood)},
		{httpAddress(d.HTTPAddress), "http-address", fmt.Sprintf("%q is not HOST:PORT or :PORT", d.HTTPAddress)},
		{
			o.selinuxLabel == "" || selinuxLabel.MatchString(o.selinuxLabel),
			"selinux-label", fmt.Sprintf("%q is not a label such as %s", o.selinuxLabel, containerFileLabel),
		},
		{
			k.APIVersion == "" || apiVersion.MatchString(k.APIVersion),
			"vault-api-version", fmt.Sprintf("%q is not a version such as 7.4 or 2025-07-01", k.APIVersion),
		},
		{d.Limits.Bytes > 0, "max-volume-bytes", "must be positive"},
		{d.Limits.Files > 0, "max-volume-files", "must be positive"},
		{o.loggingFormat == "text" || o.loggingFormat == "json", "logging-format", fmt.Sprintf("%q is neither text nor json", o.loggingFormat)},
		{o.verbosity >= 0 && o.verbosity <= math.MaxInt8, "v", fmt.Sprintf("%d is not between 0 and %d", o.verbosity, math.MaxInt8)},
	} {
		if !c.ok {
			return fmt.Errorf("--%s: %s", c.flag, c.text)
		}
	}
	k.Cloud, err = azure.CloudByName(o.cloud, o.authorityHost, o.vaultSuffix)
	return err
}

func absolute(path string) bool { return strings.HasPrefix(path, "/") }

// httpAddress reports whether an address is empty, which turns HTTP off, or HOST:PORT.
func httpAddress(address string) bool {
	_, port, err := net.SplitHostPort(address)
	_, portErr := strconv.ParseUint(port, 10, 16)
	return address == "" || err == nil && portErr == nil
}

// apiVersion is 7.4, 7.6-preview.2, 2025-07-01 or 2025-06-01-preview.
var apiVersion = regexp.MustCompile(`^(\d\.\d|\d{4}-\d{2}-\d{2})(-preview(\.\d+)?)?$`)

// containerFileLabel is the label of content that containers share: each may read it, because it has no categories.
const containerFileLabel = "system_u:object_r:container_file_t:s0"

// selinuxLabel is user:role:type or user:role:type:range. None of its characters can end a mount option.
var selinuxLabel = regexp.MustCompile(`^[0-9A-Za-z_.-]+(:[0-9A-Za-z_.-]+){2}(:[0-9A-Za-z_.,:-]+)?$`)

// defaultSELinuxLabel is empty if SELinux is off or has no policy, because the kernel then refuses the mount option. If SELinux is on,
// the folder /sys/fs/selinux exists, even if selinuxfs is not mounted, and even if no policy is loaded (SELINUX=disabled in
// /etc/selinux/config). Without a policy the context of processes is "kernel"; with one it is user:role:type.
func defaultSELinuxLabel() string {
	_, err := os.Stat("/sys/fs/selinux")
	context, _ := os.ReadFile("/proc/thread-self/attr/current")
	if err != nil || strings.TrimRight(string(context), "\x00\n") == "kernel" {
		return ""
	}
	return containerFileLabel
}

// parseBytes reads a number of bytes with a suffix of Kubernetes.
func parseBytes(text string) (int64, error) {
	digits, unit := text, int64(1)
	for suffix, size := range map[string]int64{"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "k": 1e3, "M": 1e6, "G": 1e9} {
		if d, ok := strings.CutSuffix(text, suffix); ok {
			digits, unit = d, size
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return 0, errors.New("not a number of bytes, such as 16777216, 16Mi or 1Gi")
	}
	return n * unit, nil
}
