package faults_test

import (
	"time"

	"google.golang.org/grpc/codes"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

const tokens = "oauth2"

// sentClaims are those of the kubelet's tokens for the volumes.
const sentClaims = `subject "system:serviceaccount:` + node.Namespace + `:` + node.ServiceAccount + `", issuer "https://oidc.example.com/node", audience "api://AzureADTokenExchange"`

// Entra ID, on a node whose tokens are so short that every fetch logs in.
var loginFaults = []fault{
	{
		name: "Entra ID: 500", setup: "login", inject: inLogin(devcloud.Fault{Path: tokens, Action: devcloud.Fail, Status: 500}),
		code: codes.Unavailable, says: "Entra ID answered HTTP 500 temporarily_unavailable, AADSTS90033: the authority fails; tried again later",
		advice: "wait; see the status of Azure",
	},
	{
		name: "Entra ID: 429 with Retry-After", setup: "login", inject: inLogin(devcloud.Fault{Path: tokens, Action: devcloud.Throttle, RetryAfter: 5 * time.Second}),
		within: short, code: codes.Unavailable, says: "Entra ID answered HTTP 429 too_many_requests, AADSTS90055: logins are throttled; tried again later",
		advice: "wait; tokens are kept for as long as they last",
	},
	{
		name: "Entra ID: 429 without Retry-After", setup: "login", inject: inLogin(devcloud.Fault{Path: tokens, Action: devcloud.Throttle}),
		within: 3500 * time.Millisecond, code: codes.Unavailable, says: "Entra ID answered HTTP 429 too_many_requests, AADSTS90055: logins are throttled; tried again later",
		advice: "wait; tokens are kept for as long as they last",
	},
	{
		name: "Entra ID: 429 once", setup: "login", inject: inLogin(devcloud.Fault{Path: tokens, Action: devcloud.Throttle, RetryAfter: time.Second, Times: 1}), healed: true,
		advice: "nothing: the driver waits as long as Entra ID wants, and asks again",
	},
	{
		name: "Entra ID: no answer", setup: "login", inject: inLogin(devcloud.Fault{Path: tokens, Action: devcloud.Hang}),
		within: short, code: codes.DeadlineExceeded, says: "waiting for Entra ID: context deadline exceeded",
		advice: "look at the network between the node and Entra ID",
	},
	{
		// With a setup of its own, because it breaks the other requests on the connection too, also those of other tenants.
		name: "Entra ID: the connection is reset", setup: "shared", inject: inLogin(devcloud.Fault{Path: tokens, Action: devcloud.Reset}),
		code: codes.Unavailable, says: "no answer from login.microsoftonline.com: the connection broke; check the network between the node and it",
		advice: "look at firewalls and proxies between the node and Entra ID",
	},
	{
		name: "Entra ID: a body that is cut", setup: "login", inject: inLogin(devcloud.Fault{Path: tokens, Action: devcloud.Cut, After: 10}),
		code: codes.Unavailable, says: "no answer from login.microsoftonline.com: the connection broke; check the network between the node and it",
		advice: "look at firewalls and proxies between the node and Entra ID",
	},
	{
		name: "Entra ID: a body without an end", setup: "login", inject: inLogin(devcloud.Fault{Path: tokens, Action: devcloud.Endless}),
		code: codes.Unavailable, says: "no answer from login.microsoftonline.com: the answer is larger than any answer of a key vault; check what answers under this name",
		advice: "find out what answers in the place of Entra ID",
	},
	{
		name: "Entra ID: a body that is no JSON", setup: "login", inject: inLogin(devcloud.Fault{Path: tokens, Action: devcloud.Malformed}),
		code: codes.Unavailable, says: "Entra ID gave a strange answer, it cannot be understood; check what answers under its name",
		advice: "find out what answers in the place of Entra ID",
	},
	{
		name: "Entra ID: an HTML page", setup: "login",
		inject: inLogin(devcloud.Fault{Path: tokens, Action: devcloud.Malformed, Text: "<html>Sign in</html>", ContentType: "text/html"}),
		code:   codes.Unavailable, says: "Entra ID gave a strange answer, it cannot be understood; check what answers under its name",
		advice: "find out what answers in the place of Entra ID",
	},
	{
		name: "Entra ID: an HTML page, with status 403", setup: "login",
		inject: inLogin(devcloud.Fault{Path: tokens, Action: devcloud.Malformed, Status: 403, Text: "<html>Sign in</html>", ContentType: "text/html"}),
		code:   codes.Unavailable, says: "Entra ID answered HTTP 403: that is no answer of Entra ID; check what answers under its name",
		advice: "find out what answers in the place of Entra ID",
	},
	{
		name: "Entra ID: it cannot reach the cluster's issuer", setup: "login", inject: inLogin(devcloud.Fault{Path: tokens, Action: devcloud.Malformed, Status: 400,
			Text: `{"error":"invalid_request","error_description":"AADSTS90061: Request to External OIDC endpoint failed."}`}),
		code: codes.Unavailable, says: "Entra ID answered HTTP 400 invalid_request, AADSTS90061: Entra ID cannot fetch the keys of the token's issuer; tried again later. " +
			"Can the issuer be reached from the internet? The token has " + sentClaims,
		advice: "wait, or make the issuer reachable; nothing that is kept is dropped",
	},
	{
		name: "Entra ID: an answer without a token", setup: "login", inject: inLogin(devcloud.Fault{Path: tokens, Action: devcloud.Malformed, Text: "{}"}),
		code: codes.Unavailable, says: "Entra ID gave a strange answer, it cannot be understood; check what answers under its name",
		advice: "find out what answers in the place of Entra ID",
	},
	{
		name: "Entra ID: its discovery fails", setup: "login", inject: inLogin(devcloud.Fault{Path: "v2.0", Action: devcloud.Fail}), healed: true,
		advice: "nothing: the driver does not need it",
	},
	{
		name: "the pod's token has expired", setup: "login", inject: tokenTimes{-2 * time.Hour, time.Hour}.inject,
		code: codes.Unauthenticated, says: "Entra ID answered HTTP 401 invalid_client, AADSTS700024: the pod's token is expired or not yet valid; check the clocks, the kubelet brings a fresh one",
		advice: "check the clocks of the node and of the API server",
	},
	{
		name: "the pod's token is of tomorrow", setup: "login", inject: tokenTimes{24 * time.Hour, time.Hour}.inject,
		code: codes.Unauthenticated, says: "Entra ID answered HTTP 401 invalid_client, AADSTS700024: the pod's token is expired or not yet valid; check the clocks, the kubelet brings a fresh one",
		advice: "check the clocks of the node and of the API server",
	},
}

// The node's metadata service.
var metadataFaults = []fault{
	{
		name: "metadata service: down", setup: "metadata", alone: true, inject: func(fx *fixture, _ []*cell) func() { fx.relay.down(); return fx.relay.up },
		code: codes.Unavailable, says: "no answer from 169.254.169.254: connection refused; is this node a VM of Azure, whose metadata service its pods may reach?",
		advice: "`managed` needs a VM of Azure; else use `workload`",
	},
	{
		name: "metadata service: silent", setup: "metadata", alone: true, inject: silent,
		within: short, code: codes.DeadlineExceeded, says: "waiting for the node's metadata service: context deadline exceeded",
		advice: "look at the node, and at network policies that concern 169.254.169.254",
	},
	{
		name: "metadata service: no answer", setup: "metadata", alone: true, inject: inMetadata(devcloud.Fault{Action: devcloud.Hang}),
		within: short, code: codes.DeadlineExceeded, says: "waiting for the node's metadata service: context deadline exceeded",
		advice: "look at the node",
	},
	{
		name: "metadata service: 500", setup: "metadata", inject: inMetadata(devcloud.Fault{Action: devcloud.Fail, Status: 500}),
		code: codes.Unavailable, says: "the node's metadata service answered HTTP 500 temporarily_unavailable: the metadata service fails; tried again later",
		advice: "wait",
	},
	{
		name: "metadata service: 429", setup: "metadata", inject: inMetadata(devcloud.Fault{Action: devcloud.Throttle}),
		within: 3500 * time.Millisecond, code: codes.Unavailable, says: "the node's metadata service answered HTTP 429 too_many_requests: the metadata service is throttled; tried again later",
		advice: "wait; find out who else on the node asks it",
	},
	{
		name: "metadata service: 410 while it is updated", setup: "metadata", inject: inMetadata(devcloud.Fault{Action: devcloud.Fail, Status: 410}),
		code: codes.Unavailable, says: "the node's metadata service answered HTTP 410 temporarily_unavailable: the metadata service fails; tried again later",
		advice: "wait",
	},
	{
		name: "metadata service: 500 once", setup: "metadata", inject: inMetadata(devcloud.Fault{Action: devcloud.Fail, Status: 500, Times: 1}), healed: true,
		advice: "nothing: the driver asks again at once",
	},
	{
		name: "metadata service: the connection is reset", setup: "metadata", inject: inMetadata(devcloud.Fault{Action: devcloud.Reset}),
		code: codes.Unavailable, says: "no answer from 169.254.169.254: the connection broke; is this node a VM of Azure, whose metadata service its pods may reach?",
		advice: "look at the node",
	},
	{
		name: "metadata service: a body that is no JSON", setup: "metadata", inject: inMetadata(devcloud.Fault{Action: devcloud.Malformed}),
		code: codes.Unavailable, says: "the node's metadata service gave a strange answer, it cannot be understood; check what answers under its name",
		advice: "find out what answers at 169.254.169.254",
	},
	{
		name: "metadata service: a page with status 403", setup: "metadata", inject: inMetadata(devcloud.Fault{Action: devcloud.Malformed, Status: 403, Text: "no route", ContentType: "text/plain"}),
		code: codes.Unavailable, says: "the node's metadata service answered HTTP 403: that is no answer of a metadata service; does something else answer at 169.254.169.254?",
		advice: "find out what answers at 169.254.169.254",
	},
	{
		name: "metadata service: a body without an end", setup: "metadata", inject: inMetadata(devcloud.Fault{Action: devcloud.Endless}),
		code: codes.Unavailable, says: "no answer from 169.254.169.254: the answer is larger than any answer of a key vault; is this node a VM of Azure, whose metadata service its pods may reach?",
		advice: "find out what answers at 169.254.169.254",
	},
}
