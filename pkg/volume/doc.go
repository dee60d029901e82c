// Package volume is the vocabulary of the driver: what a pod asked for and what answers it.
//
// A call travels through the program as values of this package. [Parse] turns the string maps of a
// NodePublishVolume request into one typed, validated [Request]; the policy looks at it; a fetcher answers it with a
// [Content]; a store puts that content below the path of a [Mount]. Failures on the way are one of the sentinel
// errors of this package, so that only one switch, at the gRPC boundary, has to know about codes.
//
// Everything that a user wrote is judged here and nowhere else: names, versions, vault hosts, paths, modes and
// tokens. Whoever holds a Request may rely on it.
//
// What only the vault can tell, such as the secrets that a selection matches, is judged by the same rules when it is
// known: [ValidName] for names, [Tree] for the paths of one volume.
//
// The package is a leaf and pure: no network, no files, no clock, and no import of CSI, gRPC, Azure or mount code.
package volume
