package faults_test

import (
	"fmt"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

// short is the timeout of volumes during a fault that does not answer.
const short = 3 * time.Second

var vaultFaults = []fault{
	{
		name: "the vault answers too late", setup: "vault", inject: inVault(devcloud.Fault{Action: devcloud.Delay, Delay: time.Minute}),
		within: short, code: codes.DeadlineExceeded, says: "waiting for the vault: context deadline exceeded",
		advice: "look at the network between the node and the vault; `timeout` may be up to 110s",
	},
	{
		name: "the vault does not answer", setup: "vault", inject: inVault(devcloud.Fault{Action: devcloud.Hang}),
		within: short, code: codes.DeadlineExceeded, says: "waiting for the vault: context deadline exceeded",
		advice: "look at the network between the node and the vault",
	},
	{
		name: "an answer that stops in the middle", setup: "vault", inject: inVault(devcloud.Fault{Action: devcloud.Stall, After: 10}),
		within: short, code: codes.DeadlineExceeded, says: "waiting for the vault: context deadline exceeded",
		advice: "look at the network between the node and the vault",
	},
	{
		name: "429 with Retry-After", setup: "vault", inject: inVault(devcloud.Fault{Action: devcloud.Throttle, RetryAfter: 5 * time.Second}),
		within: short, code: codes.Unavailable, says: "HTTP 429 Throttled: the vault is throttled; it is asked again later",
		advice: "longer `rotationInterval`, fewer objects a pod, more vaults",
	},
	{
		name: "429 without Retry-After", setup: "vault", inject: inVault(devcloud.Fault{Action: devcloud.Throttle}),
		within: 3500 * time.Millisecond, code: codes.Unavailable, says: "HTTP 429 Throttled: the vault is throttled; it is asked again later",
		advice: "the same",
	},
	{
		name: "429 once", setup: "vault", inject: inVault(devcloud.Fault{Action: devcloud.Throttle, RetryAfter: time.Second, Times: 1}), healed: true,
		advice: "nothing: the driver waits as long as the vault wants, and asks again",
	},
	{
		name: "500", setup: "vault", inject: inVault(devcloud.Fault{Action: devcloud.Fail, Status: 500}),
		code: codes.Unavailable, says: "HTTP 500 InternalServerError: the vault fails; it is asked again later",
		advice: "wait; see the status of Azure",
	},
	{
		name: "503", setup: "vault", inject: inVault(devcloud.Fault{Action: devcloud.Fail}),
		code: codes.Unavailable, says: "HTTP 503 ServiceUnavailable: the vault fails; it is asked again later",
		advice: "wait; see the status of Azure",
	},
	{
		name: "503 with Retry-After", setup: "vault", inject: inVault(devcloud.Fault{Action: devcloud.Fail, RetryAfter: 5 * time.Second}),
		within: short, code: codes.Unavailable, says: "HTTP 503 ServiceUnavailable: the vault fails; it is asked again later",
		advice: "wait; see the status of Azure",
	},
	{
		name: "500 once", setup: "vault", inject: inVault(devcloud.Fault{Action: devcloud.Fail, Status: 500, Times: 1}), healed: true,
		advice: "nothing: the driver asks again at once",
	},
	{
		name: "a redirect", setup: "vault", inject: inVault(devcloud.Fault{Action: devcloud.Fail, Status: http.StatusFound}),
		code: codes.Unavailable, says: "HTTP 302 Found: a redirect is never followed; check what answers under this name",
		advice: "find out what answers in the vault's place, such as the login page of a network",
	},
	{
		name: "the connection is reset", setup: "vault", inject: inVault(devcloud.Fault{Action: devcloud.Reset}),
		code: codes.Unavailable, says: "no answer from {host}: the connection broke; check the network between the node and it",
		advice: "look at firewalls and proxies between the node and the vault",
	},
	{
		name: "the connection is reset once", setup: "vault", inject: inVault(devcloud.Fault{Action: devcloud.Reset, Times: 1}), healed: true,
		advice: "nothing: the driver asks again at once",
	},
	{
		name: "a body that is cut", setup: "vault", inject: inVault(devcloud.Fault{Action: devcloud.Cut, After: 10}),
		code: codes.Unavailable, says: "no answer from {host}: the connection broke; check the network between the node and it",
		advice: "look at firewalls and proxies between the node and the vault",
	},
	{
		name: "a body without an end", setup: "vault", inject: inVault(devcloud.Fault{Action: devcloud.Endless}),
		code: codes.Unavailable, says: "no answer from {host}: the answer is larger than any answer of a key vault; check what answers under this name",
		advice: "find out what answers in the vault's place",
	},
	{
		name: "a body that is no JSON", setup: "vault", inject: inVault(devcloud.Fault{Action: devcloud.Malformed}),
		code: codes.Unavailable, says: "the vault gave a strange answer, it cannot be understood; check what answers under its name",
		advice: "find out what answers in the vault's place",
	},
	{
		name: "JSON of another shape", setup: "vault", inject: inVault(devcloud.Fault{Action: devcloud.Malformed, Text: `{"value": ["first"]}`}),
		code: codes.Unavailable, says: "the vault gave a strange answer, it cannot be understood; check what answers under its name",
		advice: "find out what answers in the vault's place",
	},
	{
		name: "an HTML page, with status 200", setup: "vault",
		inject: inVault(devcloud.Fault{Action: devcloud.Malformed, Text: "<html><body>Sign in</body></html>", ContentType: "text/html"}),
		code:   codes.Unavailable, says: "the vault gave a strange answer, it cannot be understood; check what answers under its name",
		advice: "find out what answers in the vault's place, such as the login page of a network",
	},
	foreignPage(http.StatusForbidden),
	foreignPage(http.StatusNotFound),
	{
		name: "the vault does not know the key of a token, once", setup: "vault", inject: inVault(devcloud.Fault{Action: devcloud.UnknownKey, Times: 1}), healed: true,
		advice: "nothing: the driver asks again after a second",
	},
	{
		name: "the vault does not know the key of a token", setup: "vault", inject: inVault(devcloud.Fault{Action: devcloud.UnknownKey}),
		code: codes.Unavailable, says: "HTTP 401 Unauthorized, AKV10046: the vault does not know the key that signed the token, which passes; it is asked again later",
		advice: "wait; it has nothing to do with the identity",
	},
	{
		name: "public access to the vault is switched off", setup: "vault", inject: toVaults(
			func(c *cell) { c.vault.SetPublicAccess(false) }, func(c *cell) { c.vault.SetPublicAccess(true) }),
		code: codes.PermissionDenied, says: "HTTP 403 Forbidden, ForbiddenByConnection: public access to the vault is off, so that an allowed address does not help; " +
			"connect the node's network by an approved private endpoint",
		advice: "make a private endpoint for the network of the nodes, with its DNS",
	},
	{
		name: "the vault's name is gone", setup: "vault", inject: toVaults(
			func(c *cell) { c.fx.Cloud.RemoveVault(c.vault); c.fx.Cloud.Disconnect(c.vault.Host()) },
			func(c *cell) { c.restoreVault() }),
		code: codes.Unavailable, says: "no answer from {host}: the proxy answered CONNECT with HTTP 502; check the name, and what the proxy allows",
		advice: "check the name of the vault",
	},
}

// foreignPage is an answer of what stands between the node and the vault. It must not be taken for the vault's own.
func foreignPage(status int) fault {
	return fault{
		name: fmt.Sprintf("an HTML page, with status %d", status), setup: "vault", inject: inVault(devcloud.Fault{
			Action: devcloud.Malformed, Status: status, Text: "<html><body>no such page</body></html>", ContentType: "text/html",
		}),
		code: codes.Unavailable, says: fmt.Sprintf("HTTP %d: that is no answer of a key vault; check what answers under this name", status),
		advice: "find out what answers in the vault's place, such as a load balancer; nothing is removed, also not an optional file",
	}
}

func challenge(name, text string) fault {
	return fault{
		name: "challenge: " + name, setup: "vault", inject: inVault(devcloud.Fault{Action: devcloud.Challenge, Text: text}),
		code: codes.Unavailable, says: "the vault gave no readable challenge (HTTP 401, WWW-Authenticate); is this a key vault of AzurePublicCloud?",
		again:  "HTTP 401 Unauthorized, AKV10000: the vault does not accept a token of tenant {tenant}; check tenantID and --cloud",
		advice: "find out what answers in the vault's place; check `--cloud`",
	}
}

// Values of the header WWW-Authenticate in a vault's 401.
var challengeFaults = []fault{
	challenge("none", ""),
	challenge("of another scheme", `Basic realm="vault"`),
	challenge("without parameters", "Bearer"),
	challenge("no URL", `Bearer authorization="login", resource="https://vault.azure.net"`),
	challenge("no tenant", `Bearer authorization="https://login.microsoftonline.com", resource="https://vault.azure.net"`),
	challenge("clear text", `Bearer authorization="http://login.microsoftonline.com/{tenant}", resource="https://vault.azure.net"`),
	challenge("no resource", `Bearer authorization="https://login.microsoftonline.com/{tenant}"`),
	challenge("another resource", `Bearer authorization="https://login.microsoftonline.com/{tenant}", resource="https://vault.example.com"`),
	challenge("a tenant that leads elsewhere", `Bearer authorization="https://login.microsoftonline.com/../{tenant}", resource="https://vault.azure.net"`),
	challenge("16 KiB of nonsense", `Bearer `+nonsense()),
	{
		name: "challenge: another authority", setup: "vault", inject: inVault(devcloud.Fault{
			Action: devcloud.Challenge, Text: `Bearer authorization="https://login.example.com/{tenant}", resource="https://vault.azure.net"`, Times: 1,
		}), healed: true, advice: "nothing: logins go to the authority of `--cloud`, whatever a vault says",
	},
}

func nonsense() string {
	text := make([]byte, 16<<10)
	for i := range text {
		text[i] = `a="b",= `[i%8]
	}
	return string(text)
}

// Faults of the content of an object.
var objectFaults = []fault{
	{
		name: "a certificate that is no PKCS#12 file", setup: "vault", prepare: setCertificate, inject: toVaults(func(c *cell) {
			c.vault.SetSecret("web-tls", "MIIB", devcloud.SecretOptions{ContentType: devcloud.PKCS12, Kid: c.vault.URL() + "/keys/web-tls/0"})
		}, repairCertificate),
		objects: "- certificate: web-tls", object: `objects[0]: certificate "web-tls"`, listed: `secrets[0]: secret "web-tls"`,
		code: codes.FailedPrecondition, says: "is not a readable PKCS#12 file without a password",
		advice: "import the certificate again",
	},
	{
		name: "a certificate that is not of its content type", setup: "vault", prepare: setCertificate, inject: toVaults(func(c *cell) {
			c.vault.SetSecret("web-tls", "not PEM", devcloud.SecretOptions{ContentType: devcloud.PEMFile, Kid: c.vault.URL() + "/keys/web-tls/0"})
		}, repairCertificate),
		objects: "- certificate: web-tls", object: `objects[0]: certificate "web-tls"`, listed: `secrets[0]: secret "web-tls"`,
		code: codes.FailedPrecondition, says: "is not readable PEM",
		advice: "import the certificate again",
	},
	{
		name: "a certificate whose PEM is damaged", setup: "vault", prepare: setCertificate, inject: toVaults(func(c *cell) {
			c.vault.SetSecret("web-tls", "-----BEGIN CERTIFICATE----- MIIB -----END CERTIFICATE-----",
				devcloud.SecretOptions{ContentType: devcloud.PEMFile, Kid: c.vault.URL() + "/keys/web-tls/0"})
		}, repairCertificate),
		objects: "- certificate: web-tls", object: `objects[0]: certificate "web-tls"`, listed: `secrets[0]: secret "web-tls"`,
		code: codes.FailedPrecondition, says: "has damaged PEM: block 1 of 1 (CERTIFICATE) is not readable: the line breaks are gone: " +
			"replace spaces by line ends; store the complete file again (az keyvault secret set --file)",
		advice: "store the file again; the error names the block and what is wrong",
	},
	{
		name: "a JSON value without the field", setup: "vault", prepare: setValues, inject: toVaults(func(c *cell) {
			c.vault.SetSecret("db", `{"user": "app"}`, devcloud.SecretOptions{})
		}, repairValues),
		objects: "- {secret: db, field: /password}", object: `objects[0]: secret "db"`,
		selects: "- {json: app.json, from: [{secrets: {prefix: app-}}, {name: password, secret: db, field: /password}]}",
		listed:  `objects[0].from[1]: secret "db"`,
		code:    codes.FailedPrecondition, says: `has no field "/password", the value has no member "password"; correct the pointer or the value`,
		advice: "correct the value or the pointer; `optional: true` accepts the absence",
	},
	{
		name: "a value that is no JSON any more", setup: "vault", prepare: setValues, inject: toVaults(func(c *cell) {
			c.vault.SetSecret("db", "hunter2", devcloud.SecretOptions{})
		}, repairValues),
		objects: "- {secret: db, field: /password}", object: `objects[0]: secret "db"`,
		selects: "- {json: app.json, from: [{secrets: {prefix: app-}}, {name: password, secret: db, field: /password}]}",
		listed:  `objects[0].from[1]: secret "db"`,
		code:    codes.FailedPrecondition, says: `has no field "/password", its value is not JSON; correct the value, or leave the field out`,
		advice: "store the JSON value again",
	},
	{
		name: "a value that an env file cannot hold", setup: "vault", prepare: setValues, inject: toVaults(func(c *cell) {
			c.vault.SetSecret("app-url", "it's", devcloud.SecretOptions{})
		}, repairValues),
		objects: "- {env: app.env, from: [{secret: app-url}]}", object: `objects[0].from[0]: secret "app-url"`,
		selects: "- {env: app.env, from: [{secrets: {prefix: app-}}]}", listed: `objects[0].from[0]: secret "app-url"`,
		code: codes.FailedPrecondition, says: `cannot be the entry "APP_URL" of "app.env": it has a single quote, which the format cannot express; ` +
			"change the value, or write it to a json or properties file, or to one of its own",
		advice: "change the value; [values.md](values.md#env) lists what the format has no form for",
	},
}

// Tokens that the vault refuses, and wrong clocks.
var tokenFaults = []fault{
	{
		name: "the vault refuses every token", setup: "vault", inject: inVault(devcloud.Fault{
			Action: devcloud.Challenge, Text: `Bearer authorization="https://login.microsoftonline.com/{tenant}", resource="https://vault.azure.net"`,
		}),
		code: codes.Unauthenticated, says: "HTTP 401 Unauthorized, AKV10000: the vault does not accept a token of tenant {tenant}; check tenantID and --cloud",
		advice: "check `tenantID`, and the tenant of the vault",
	},
	{
		name: "a token that was good is refused", setup: "vault", warm: true, inject: inVault(devcloud.Fault{
			Action: devcloud.Challenge, Text: `Bearer authorization="https://login.microsoftonline.com/{tenant}", resource="https://vault.azure.net"`, Times: 1,
		}), healed: true,
		advice: "nothing: the driver logs in again",
	},
	{
		name: "the vault's clock is two hours ahead: every token is expired", setup: "vault", inject: clock(2 * time.Hour),
		code: codes.Unauthenticated, says: "HTTP 401 Unauthorized, TokenExpired: the token is expired by the vault's clock; check the clock of the node",
		advice: "nothing on the node can mend that; a vault of a private cloud may have the wrong time",
	},
	{
		name: "the vault's clock is two hours behind: no token is valid yet", setup: "vault", inject: clock(-2 * time.Hour),
		code: codes.Unauthenticated, says: "HTTP 401 Unauthorized, BearerReadAccessTokenFailed: the vault does not accept a token of tenant {tenant}; check tenantID and --cloud",
		advice: "nothing on the node can mend that; a vault of a private cloud may have the wrong time",
	},
}
