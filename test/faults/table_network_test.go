package faults_test

import (
	"net/http"

	"golang.org/x/net/dns/dnsmessage"
	"google.golang.org/grpc/codes"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

// Faults between the node and its vaults: TLS, and a proxy.
var networkFaults = []fault{
	{
		name: "TLS: unknown authority", setup: "vault", inject: showing(devcloud.UntrustedCertificate),
		code: codes.Unavailable, says: "no answer from {host}: its certificate is not trusted; behind an inspecting proxy, give its root with --ca-bundle",
		advice: "behind an inspecting proxy, give its root with `--ca-bundle`",
	},
	{
		name: "TLS: the certificate of another host", setup: "vault", inject: showing(devcloud.ForeignCertificate),
		code: codes.Unavailable, says: "no answer from {host}: its certificate is for another host; check what answers under this name",
		advice: "find out what answers in the vault's place; check the DNS of the node",
	},
	{
		name: "TLS: an expired certificate", setup: "vault", inject: showing(devcloud.ExpiredCertificate),
		code: codes.Unavailable, says: "no answer from {host}: its certificate has expired or is not valid yet; check the clock of the node, and what answers under this name",
		advice: "check the clock of the node",
	},
	{
		name: "TLS: a certificate of tomorrow", setup: "vault", inject: showing(devcloud.EarlyCertificate),
		code: codes.Unavailable, says: "no answer from {host}: its certificate has expired or is not valid yet; check the clock of the node, and what answers under this name",
		advice: "check the clock of the node",
	},
	{
		name: "the proxy wants a password", setup: "vault", inject: inProxy(devcloud.Fault{Action: devcloud.Fail, Status: http.StatusProxyAuthRequired}),
		code: codes.Unavailable, says: "no answer from {host}: the proxy answered CONNECT with HTTP 407; check the name, and what the proxy allows",
		advice: "check `HTTPS_PROXY` of the driver",
	},
	{
		name: "the proxy fails", setup: "vault", inject: inProxy(devcloud.Fault{Action: devcloud.Fail}),
		code: codes.Unavailable, says: "no answer from {host}: the proxy answered CONNECT with HTTP 503; check the name, and what the proxy allows",
		advice: "look at the proxy",
	},
	{
		name: "the proxy does not answer", setup: "vault", inject: inProxy(devcloud.Fault{Action: devcloud.Hang}),
		within: short, code: codes.DeadlineExceeded, says: "waiting for the vault: context deadline exceeded",
		advice: "look at the proxy",
	},
	{
		name: "the proxy resets the connection", setup: "vault", inject: inProxy(devcloud.Fault{Action: devcloud.Reset}),
		code: codes.Unavailable, says: "no answer from {host}: the connection broke; check the network between the node and it",
		advice: "look at the proxy",
	},
	{
		name: "the proxy is down", setup: "proxy", alone: true, inject: func(fx *fixture, _ []*cell) func() { fx.relay.down(); return fx.relay.up },
		code: codes.Unavailable, says: "no answer from {host}: the proxy cannot be reached; check HTTPS_PROXY and NO_PROXY of the driver",
		advice: "check `HTTPS_PROXY` and `NO_PROXY` of the driver",
	},
	{
		name: "the proxy takes connections and is silent", setup: "proxy", alone: true, inject: silent,
		within: short, code: codes.DeadlineExceeded, says: "waiting for Entra ID: context deadline exceeded", // a new pod logs in first
		again:  "waiting for the vault: context deadline exceeded",
		advice: "look at the proxy",
	},
}

func silent(fx *fixture, _ []*cell) func() {
	fx.relay.setMute(true)
	return func() { fx.relay.setMute(false) }
}

// Without a proxy: names and addresses.
var directFaults = []fault{
	{
		name: "DNS: no such name", setup: "direct", inject: naming(dnsAnswer{code: dnsmessage.RCodeNameError}),
		code: codes.Unavailable, says: "no answer from {host}: there is no such host; check the name, and the DNS of the node",
		advice: "check the name; with a private endpoint, the node must resolve the public name to it",
	},
	{
		name: "DNS: the server fails", setup: "direct", inject: naming(dnsAnswer{code: dnsmessage.RCodeServerFailure}),
		code: codes.Unavailable, says: "no answer from {host}: its name cannot be resolved now; check the DNS of the node",
		advice: "look at the DNS of the node",
	},
	{
		name: "DNS: no answer", setup: "direct", inject: naming(dnsAnswer{silent: true}),
		within: short, code: codes.DeadlineExceeded, says: "waiting for the vault: context deadline exceeded",
		advice: "look at the DNS of the node",
	},
	{
		name: "the connection is refused", setup: "direct", inject: naming(dnsAnswer{address: [4]byte{127, 0, 0, 9}}),
		code: codes.Unavailable, says: "no answer from {host}: connection refused; check the network between the node and it",
		advice: "check where the name leads",
	},
	{
		name: "there is no way to the address", setup: "direct", inject: naming(dnsAnswer{address: [4]byte{192, 0, 2, 1}}),
		code: codes.Unavailable, says: "no answer from {host}: network is unreachable; check the network between the node and it",
		advice: "check the routes of the node",
	},
}
