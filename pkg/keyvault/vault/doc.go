// Package vault reads objects from Azure Key Vaults.
//
//   - request.go: the request that an object needs, so that objects with the same request are read once.
//   - reader.go, read.go, list.go: the four calls to the SDK's clients: a secret, a certificate, a key, the list of secrets.
//   - challenge.go: the 401 that names a vault's tenant. It is requested once per vault and rewritten, because the
//     SDK requests it once per client and panics on some forms of it.
//   - vaults.go: the state of each vault while it is used: its tenant and its throttle. The transport sends a token
//     to no other host than the vault's.
//   - hints.go: what to do about a refusal. https://learn.microsoft.com/azure/key-vault/general/rest-error-codes
//   - metrics.go: the requests, by vault.
//
// The package does not know how a token is obtained (callers pass a credential with its token), how a value is used, or what a cache
// keeps.
package vault
