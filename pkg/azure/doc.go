// Package azure is what logins and vaults share: which Azure it is, one HTTPS client, and what may be said of an answer.
//
//   - cloud.go: the table of clouds, their authority and the DNS suffix of their vaults.
//   - transport.go: the client. Bodies are bounded, redirects are not followed, the environment is not read.
//   - memory.go: the memory that the answers to one namespace's requests may take.
//   - throttle.go: one service is not asked again before the time that it names in Retry-After.
//   - errors.go: an error of the SDK prints the whole response. [Reduce] keeps the status, the service's own codes and
//     stable words for network failures, and nothing that could hold a value, a token or a changing number.
//
// The package does not know what is asked for, by which identity, or what becomes of it.
package azure
