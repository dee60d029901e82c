// Package decode runs the work whose time tenants choose: the decoding of certificates and the making of PKCS#12 files. No
// library can be interrupted in it, so the package decides who may use the CPUs for it, and how long a caller waits.
//
//   - decoders.go: [Decoders] have a few slots for the node, and one for each namespace. They also parse the client
//     certificates of logins.
//   - certificate.go: a [Certificate] is decoded once for all callers, also if they have given up meanwhile.
//
// Package certificate knows what the work is. This package does not know where a certificate comes from, what becomes of its
// parts, or how a login uses it. Package azure only catches panics here, and has the errors that a login expects of a parser.
package decode
