// Package keyvault reads a volume's objects from Azure Key Vault. A [Client] takes a [volume.Request]. It returns the
// complete set of files, or one error that says what was requested, which service refused it and what to do.
//
// This package has the order of the steps (fetch.go), and builds and connects what does them (client.go):
//
//  1. login finds out how the identity logs in,
//  2. mounted knows what the volume has already, and since when its first mount has been tried,
//  3. reads plans the distinct requests of the objects, and answers each from the cache of the identity or from its vault. It
//     combines the packages cache, login and vault, and makes their failures sentinel errors of package volume,
//  4. files makes the files of each value as soon as it was read, with the packages certificate and values. decode limits the
//     time for the former,
//  5. mounted stores what the volume holds, until Forget.
//
// Of these packages cache, certificate, login, values and vault know none of the others. files and reads do not know each
// other: what a vault returned becomes what files are made of in valueOf.
//
// The package does not know CSI, mounts, or the machine. It reads neither files nor environment variables: [Options]
// has what it needs of them (roots, proxy, a function that reads files). No error and no log entry holds a value, a
// client secret, a token, an assertion or a response body.
package keyvault
