// Package vault asks Azure Key Vaults for objects.
//
//   - request.go: which request an object needs, so that two objects which need the same are read once.
//   - read.go, list.go: the four calls to the SDK's clients: a secret, a certificate, a key, the list of secrets.
//   - challenge.go: the 401 with which a vault names its tenant. It is asked for once a vault and written anew, because the
//     SDK asks once a client and panics on some forms of it.
//   - vaults.go: what is remembered of each vault while it is used: its tenant and its throttle. The transport sends a
//     token to no other host than the vault's.
//   - hints.go: what to do about a refusal. https://learn.microsoft.com/azure/key-vault/general/rest-error-codes
//   - metrics.go: the requests, by vault.
//
// The package does not know how a token is obtained (it is handed a credential), what becomes of a value, or what a cache
// remembers.
package vault
