// Package azure has what logins and vaults share: the clouds, the HTTPS client, throttling and safe errors.
//
//   - cloud.go: the table of clouds, their authority and the DNS suffix of their vaults.
//   - transport.go: the client. It bounds bodies, follows no redirects and does not read the environment.
//   - memory.go: the limit on the memory of the answers to one namespace's requests.
//   - throttle.go: the limit on requests to one service. It honours Retry-After.
//   - errors.go: errors of the SDK print the whole response. [Reduce] keeps the status, the service's own codes and a
//     stable text for network failures. It keeps nothing that could hold a value, a token or a changing number.
//
// The package does not know which object is requested, by which identity, or how the answer is used.
package azure
