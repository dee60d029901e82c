// Package files makes the files of a volume from the values of its objects. It is given the objects and each value, whenever
// that was read, and returns the complete content of the volume, or the first error.
//
//   - set.go: a [Set] holds the files of one volume while they are made. It counts them against the limits of the volume and the
//     memory of the node.
//   - render.go: the files of one object, in the encodings and parts that it asks for.
//   - pfx.go: PKCS#12 files, also with a password, which is the value of another object.
//   - fields.go, compose.go: fields of JSON values, and files of several values.
//   - manifest.go, expiries.go: what the volume says about its objects, and when its certificates end.
//
// Packages certificate and values know what certificates and JSON values are. Package decode decides when a certificate may
// be decoded. This package does not know Azure, vaults, identities or caches, nor how or when a value was read. It writes
// nothing: a file is a path, a mode and bytes. An error names the object, never a value.
package files
