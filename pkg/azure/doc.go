// Package azure has what logins and vaults share: the clouds, the HTTPS client, throttling and safe errors.
//
//   - cloud.go: the table of clouds, their authority and the DNS suffix of their vaults.
//   - transport.go: the client. It bounds bodies, follows no redirects and does not read the environment.
//   - memory.go: the limit on the memory of the answers to one namespace's requests.
//   - throttle.go: the limit on requests to one service. It honours Retry-After (retryafter.go), and at a vault limits the rate
//     (pace.go). line.go has the order of the requests that wait, attempt.go the outcome of one call.
//   - errors.go: errors of the SDK print the whole response. [Reduce] keeps the status, the service's own codes and a
//     stable text for network failures (unreached.go). It prints nothing that could hold a value, a token or a changing number.
//
// The package does not know which object is requested, by which identity, or how the answer is used.
package azure
