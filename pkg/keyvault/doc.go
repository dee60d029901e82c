// Package keyvault answers a volume's request from Azure Key Vault.
//
// A [Client] takes a [volume.Request] and gives the complete set of files, or one error that says in one line what was
// asked, who refused it and what to do. On the way it
//
//   - finds the tenant from the vault's own 401 challenge where the request names none (challenge.go),
//   - logs in with the pod's identity, once for all volumes that share it and never across identities; of a service
//     account, each pod has to prove itself first (credential.go, token.go, proof.go),
//   - reads every distinct object of the request once, in parallel (fetch.go),
//   - turns what came back into files: decoded values, certificates split into key and chain (object.go,
//     certificate.go, pkcs12.go, chain.go),
//   - reduces whatever went wrong to a sentinel error of package volume (errors.go, hints.go).
//
// The Azure SDK does the protocol. Its sharp edges are filed down in one place, the transport: bodies are bounded,
// redirects are not followed, and a challenge is parsed and written anew before the SDK sees it.
//
// The package knows nothing of CSI, of mounts, or of the machine: it reads neither files nor environment variables,
// and whatever it needs of them (roots, proxy) comes in as [Options]. Nothing that it returns as an error or writes to
// a log holds a value, a client secret, a token, an assertion or a response body.
package keyvault
