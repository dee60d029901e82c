// Package login obtains the access tokens for reading vaults.
//
//   - kind.go: how an identity logs in. The attribute identity names an identity; this file turns it into an
//     assertion, a client secret, a client certificate or a request to the node's metadata service.
//   - logins.go: one [Login] for each [Key]. Equal keys may share a token, so the key contains everything that proves
//     the right to it.
//   - login.go: the token of one login. It is renewed before it expires, with one request for all callers.
//   - proof.go: each pod of a workload identity proves itself once, with its own service account token.
//   - credential.go, metadata.go: the credentials, of the SDK and of the metadata service.
//   - cluster.go: the login from the cluster's own file, azure.json.
//   - hints.go: what to do about a refusal. https://learn.microsoft.com/entra/identity-platform/reference-error-codes
//
// The package does not know vaults, what is read from them, or how certificates are parsed: [Options] has the parser.
package login
