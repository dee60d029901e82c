// Package volume defines the types that the other packages exchange: what a pod asks for and what it gets.
//
// [Parse] turns the string maps of a NodePublishVolume request into a validated [Request]. The policy decides about
// the Request, a fetcher turns it into a [Content], and a store writes the Content below the path of a [Mount]. Errors
// are one of the sentinel errors of this package; only pkg/driver maps them to gRPC codes.
//
// All input of users is validated here: names, versions, vault hosts, paths, modes and tokens. The other packages rely
// on it. Names that come from a vault, such as those that a selection matches, are validated by the same rules after
// the fetch: [ValidName] for names, [Tree] for the paths of one volume.
//
// The package has no side effects: no network, no files, no clock, and no import of CSI, gRPC, Azure or mount code.
package volume
