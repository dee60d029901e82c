// Package login obtains the access tokens with which vaults are read.
//
//   - kind.go: how an identity logs in. The attribute identity says whose identity it is; here it becomes an assertion, a
//     client secret, a client certificate or the node's metadata service.
//   - logins.go: one [Login] for each [Key]. Whoever has the same key may share a token, so the key has all that proves a
//     right to it.
//   - login.go: the token of one login, renewed ahead of its end, asked for once by all that wait.
//   - proof.go: each pod of a workload identity proves itself once, with its own service account token.
//   - credential.go, metadata.go: the credentials, of the SDK and of the metadata service.
//   - cluster.go: the login in the cluster's own file, azure.json.
//   - hints.go: what to do about a refusal. https://learn.microsoft.com/entra/identity-platform/reference-error-codes
//
// The package does not know vaults, what is read from them, or how certificates are parsed: a parser is handed in.
package login
