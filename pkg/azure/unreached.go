package azure

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// Unreached is the error of a host that gave no answer.
type Unreached struct {
	Host string
	Why  string // stable: no addresses, ports or times
	Hint string // what to do
}

// Error returns the host and the reason.
func (u *Unreached) Error() string { return "no answer from " + u.Host + ": " + u.Why }

const checkNetwork = "check the network between the node and it"

// NewUnreached maps an error of the transport to a stable text, because its own text has ports and addresses.
func NewUnreached(host string, err error) *Unreached {
	var (
		dns         *net.DNSError
		operation   *net.OpError
		refused     proxyRefusal
		certificate *tls.CertificateVerificationError
		invalid     x509.CertificateInvalidError
		foreign     x509.HostnameError
		errno       syscall.Errno
		timeout     net.Error
	)
	switch {
	case errors.As(err, &refused):
		return &Unreached{host, fmt.Sprintf("the proxy answered CONNECT with HTTP %d", refused.status), "check the name, and what the proxy allows"}
	case errors.As(err, &operation) && operation.Op == "proxyconnect":
		return &Unreached{host, "the proxy cannot be reached", "check HTTPS_PROXY and NO_PROXY of the driver"}
	case errors.As(err, &dns) && dns.IsNotFound:
		return &Unreached{host, "there is no such host", "check the name, and the DNS of the node"}
	case errors.As(err, &dns):
		return &Unreached{host, "its name cannot be resolved now", "check the DNS of the node"}
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return &Unreached{host, "its certificate has expired or is not valid yet", "check the clock of the node, and what answers under this name"}
	case errors.As(err, &foreign):
		return &Unreached{host, "its certificate is for another host", "check what answers under this name"}
	case errors.As(err, &certificate):
		return &Unreached{host, "its certificate is not trusted", "behind an inspecting proxy, give its root with --ca-bundle"}
	case errors.Is(err, errBodyTooLarge):
		return &Unreached{host, errBodyTooLarge.Error(), "check what answers under this name"}
	case errors.As(err, &errno) && errno != syscall.ECONNRESET && errno != syscall.EPIPE: // these two are a race like EOF: see default
		return &Unreached{host, errno.Error(), checkNetwork}
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return &Unreached{host, "timed out", checkNetwork}
	default:
		return &Unreached{host, "the connection broke", checkNetwork}
	}
}
