// Package mounted has what the client remembers of each volume of its node, from its first mount until it is unmounted: who
// owns it, which vaults it uses, when its newest object was read, and when its certificates end.
//
//   - volumes.go: the volumes, and the first mounts that are not complete yet. Their next attempts may use what was read.
//   - certificates.go: the metrics of the certificates that the volumes hold, each once, however many volumes hold it.
//
// The package does not know how objects are read or what their files are: callers say what a volume holds. It sends no request.
package mounted
