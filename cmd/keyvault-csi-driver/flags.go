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

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/tmpfs"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// options is the command line, checked but not yet turned into the parts of the program.
type options struct {
	endpoint, driverName, nodeID, kubeletRoot     string
	registrationSocket, kubeletCSISocket          string
	httpAddress                                   string
	cloudName, authorityHost, vaultSuffix, caFile string
	clusterFile, defaultIdentity, policyFile      string
	rotationInterval, mountMaxAge, lastKnownGood  time.Duration
	maxVolumeBytes                                byteSize
	maxVolumeFiles                                int
	allowReadWrite                                bool
	selinuxLabel                                  string
	apiVersion                                    string
	loggingFormat                                 string
	verbosity                                     int
	version                                       bool

	cloud keyvault.Cloud // of cloudName, authorityHost and vaultSuffix
}

// errUsage marks a command line that cannot be used: one line on standard error and exit code 2.
var errUsage = errors.New("see --help")

// minRotationInterval is below the kubelet's own grain of 60 to 90 s; less could only be a mistake of units.
const minRotationInterval = 30 * time.Second

func parseFlags(args []string, stderr io.Writer) (options, error) {
	o := options{maxVolumeBytes: tmpfs.DefaultMaxBytes}
	fs := flag.NewFlagSet("keyvault-csi-driver", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // the flag package would print the usage after the error; one line is asked for
	fs.StringVar(&o.endpoint, "endpoint", "unix:///csi/csi.sock", "CSI `socket` (made with mode 0600; a stale one is replaced)")
	fs.StringVar(&o.driverName, "driver-name", "keyvault-csi.io", "CSI driver `name`")
	fs.StringVar(&o.nodeID, "node-id", os.Getenv("NODE_NAME"), "`name` of this node; default $NODE_NAME")
	fs.StringVar(&o.kubeletRoot, "kubelet-root", "/var/lib/kubelet", "the kubelet's `folder`; targets outside it are refused")
	fs.StringVar(&o.registrationSocket, "registration-socket", "", "`path` of the plugin registration socket that is served to the kubelet, "+
		"e.g. /registration/keyvault-csi.io-reg.sock; empty = off")
	fs.StringVar(&o.kubeletCSISocket, "kubelet-csi-socket", "", "`path` of the CSI socket as the kubelet sees it; "+
		"default <kubelet-root>/plugins/<driver-name>/csi.sock")
	fs.StringVar(&o.httpAddress, "http-address", ":9808", "`address` of /healthz, /readyz and /metrics; empty = off")
	fs.StringVar(&o.cloudName, "cloud", "AzurePublicCloud", "AzurePublicCloud, AzureUSGovernmentCloud, AzureChinaCloud or custom")
	fs.StringVar(&o.authorityHost, "authority-host", "", "`URL` of Entra ID; default the cloud's")
	fs.StringVar(&o.vaultSuffix, "vault-dns-suffix", "", "DNS `suffix` of the vaults; default the cloud's")
	fs.StringVar(&o.caFile, "ca-bundle", "", "PEM `file` of extra roots, beside the system's (SSL_CERT_FILE works too)")
	fs.StringVar(&o.clusterFile, "cluster-identity-file", "/etc/kubernetes/azure.json", "JSON `file` with the cluster's own login, "+
		"for identity cluster; read again when it changes")
	fs.StringVar(&o.defaultIdentity, "default-identity", "", "`identity` of a pod that names none: cluster or managed; empty = none")
	fs.StringVar(&o.policyFile, "policy-file", "", "YAML `file` of rules that say who may use which identity; read again when it changes; "+
		"until it can be used for the first time everything is refused; without one, workload and servicePrincipal are allowed everywhere, managed and cluster nowhere")
	fs.DurationVar(&o.rotationInterval, "rotation-interval", 2*time.Minute, "`age` from which on a volume is fetched again; 0 = never")
	fs.DurationVar(&o.mountMaxAge, "mount-max-age", 10*time.Second, "`age` of a value that another pod of the same identity was given, "+
		"up to which a first mount may use it; 0 = always ask the vault")
	fs.DurationVar(&o.lastKnownGood, "last-known-good", 0, "`age` of a value up to which a first mount may use it while the vault cannot be reached; 0 = off")
	fs.Var(&o.maxVolumeBytes, "max-volume-bytes", "most content `bytes` of one volume (suffixes Ki, Mi, Gi); its tmpfs is sized for two such sets")
	fs.IntVar(&o.maxVolumeFiles, "max-volume-files", tmpfs.DefaultMaxFiles, "most `files` of one volume")
	fs.BoolVar(&o.allowReadWrite, "allow-read-write-requests", false, "accept volumes without readOnly: true; "+
		"for csi-sanity: their files are read-only all the same, but their containers may try to write while a rotation does")
	fs.StringVar(&o.selinuxLabel, "selinux-label", defaultSELinuxLabel(), "SELinux `label` of every file; empty = none; "+
		"default "+containerFileLabel+" where SELinux is on")
	fs.StringVar(&o.apiVersion, "vault-api-version", "", "Key Vault api-version, for clouds that lag behind; default the SDK's")
	fs.StringVar(&o.loggingFormat, "logging-format", "text", "text or json")
	fs.IntVar(&o.verbosity, "v", 0, "log `level`, as klog's")
	fs.BoolVar(&o.version, "version", false, "print the version and exit")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fs.SetOutput(stderr)
			fmt.Fprintln(stderr, "keyvault-csi-driver gives pods of this node Azure Key Vault secrets and certificates as files in memory.")
			fs.PrintDefaults()
			return o, err
		}
		return o, fmt.Errorf("%w (%w)", err, errUsage)
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q (%w)", fs.Arg(0), errUsage)
	}
	err := o.check() // which also finds the cloud
	return o, err
}

// check reports the first flag that cannot be used.
func (o *options) check() error {
	bad := func(name, format string, args ...any) error {
		return fmt.Errorf("--%s: %s (%w)", name, fmt.Sprintf(format, args...), errUsage)
	}
	switch {
	case o.version:
		return nil
	case !strings.HasPrefix(o.endpoint, "unix://") || !strings.HasPrefix(strings.TrimPrefix(o.endpoint, "unix://"), "/"):
		return bad("endpoint", "%q is not unix:// and an absolute path", o.endpoint)
	case o.driverName == "":
		return bad("driver-name", "is empty")
	case o.nodeID == "":
		return bad("node-id", "is empty, and so is $NODE_NAME; give the name of this node")
	case !strings.HasPrefix(o.kubeletRoot, "/"):
		return bad("kubelet-root", "%q is not an absolute path", o.kubeletRoot)
	case o.registrationSocket != "" && !strings.HasPrefix(o.registrationSocket, "/"):
		return bad("registration-socket", "%q is not an absolute path", o.registrationSocket)
	case !strings.HasPrefix(o.clusterFile, "/"):
		return bad("cluster-identity-file", "%q is not an absolute path", o.clusterFile)
	case !slices.Contains([]string{"", string(volume.Cluster), string(volume.Managed)}, o.defaultIdentity):
		return bad("default-identity", "%q is neither cluster nor managed", o.defaultIdentity)
	case o.policyFile != "" && !strings.HasPrefix(o.policyFile, "/"):
		return bad("policy-file", "%q is not an absolute path", o.policyFile)
	case o.rotationInterval != 0 && o.rotationInterval < minRotationInterval:
		return bad("rotation-interval", "%s is less than %s (0 = never)", o.rotationInterval, minRotationInterval)
	case o.mountMaxAge < 0:
		return bad("mount-max-age", "%s is negative", o.mountMaxAge)
	case o.lastKnownGood < 0:
		return bad("last-known-good", "%s is negative", o.lastKnownGood)
	case !validHTTPAddress(o.httpAddress):
		return bad("http-address", "%q is not HOST:PORT or :PORT", o.httpAddress)
	case o.selinuxLabel != "" && !selinuxLabel.MatchString(o.selinuxLabel):
		return bad("selinux-label", "%q is not a label such as %s", o.selinuxLabel, containerFileLabel)
	case o.apiVersion != "" && !apiVersion.MatchString(o.apiVersion):
		return bad("vault-api-version", "%q is not a version such as 7.4 or 2025-07-01", o.apiVersion)
	case o.maxVolumeBytes < 1:
		return bad("max-volume-bytes", "must be positive")
	case o.maxVolumeFiles < 1:
		return bad("max-volume-files", "must be positive")
	case o.loggingFormat != "text" && o.loggingFormat != "json":
		return bad("logging-format", "%q is neither text nor json", o.loggingFormat)
	case o.verbosity < 0 || o.verbosity > math.MaxInt8:
		return bad("v", "%d is not between 0 and %d", o.verbosity, math.MaxInt8)
	}
	cloud, err := keyvault.CloudByName(o.cloudName, o.authorityHost, o.vaultSuffix)
	if err != nil {
		return fmt.Errorf("%w (%w)", err, errUsage)
	}
	o.cloud = cloud
	return nil
}

// apiVersion is 7.4, 7.6-preview.2, 2025-07-01 or 2025-06-01-preview.
var apiVersion = regexp.MustCompile(`^(\d\.\d|\d{4}-\d{2}-\d{2})(-preview(\.\d+)?)?$`)

// containerFileLabel is the label that every container may read: of type container_file_t and without categories, as
// container runtimes give it to content that containers share.
const containerFileLabel = "system_u:object_r:container_file_t:s0"

// selinuxLabel is user:role:type or user:role:type:range. None of its characters can end a mount option.
var selinuxLabel = regexp.MustCompile(`^[0-9A-Za-z_.-]+(:[0-9A-Za-z_.-]+){2}(:[0-9A-Za-z_.,:-]+)?$`)

// defaultSELinuxLabel is empty where the kernel runs without SELinux: it refuses the mount option there. The folder is made by
// the kernel when SELinux is on, in every sysfs, also where selinuxfs is not mounted on it.
func defaultSELinuxLabel() string {
	if _, err := os.Stat("/sys/fs/selinux"); err != nil {
		return ""
	}
	return containerFileLabel
}

func validHTTPAddress(address string) bool {
	if address == "" {
		return true // off
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

// byteSize is a number of bytes with the suffixes that Kubernetes users write.
type byteSize int64

func (b *byteSize) String() string {
	switch n := int64(*b); {
	case n == 0:
		return "0"
	case n%(1<<30) == 0:
		return strconv.FormatInt(n>>30, 10) + "Gi"
	case n%(1<<20) == 0:
		return strconv.FormatInt(n>>20, 10) + "Mi"
	case n%(1<<10) == 0:
		return strconv.FormatInt(n>>10, 10) + "Ki"
	default:
		return strconv.FormatInt(n, 10)
	}
}

func (b *byteSize) Set(text string) error {
	digits, unit := text, int64(1)
	for suffix, size := range map[string]int64{"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "k": 1e3, "M": 1e6, "G": 1e9} {
		if d, ok := strings.CutSuffix(text, suffix); ok {
			digits, unit = d, size
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return errors.New("not a number of bytes, such as 16777216, 16Mi or 1Gi")
	}
	*b = byteSize(n * unit)
	return nil
}
