// Package keyvault reads a volume's objects from Azure Key Vault. A [Client] takes a [volume.Request]. It returns the
// complete set of files, or one error that says what was requested, which service refused it and what to do.
//
// This package combines the steps of a request. Each step is done by a package that does not know the others:
//
//  1. login finds out how the identity logs in, and whether this pod has proven itself (fetch.go),
//  2. vault plans the distinct requests of the objects (reads.go),
//  3. cache answers from the recent reads of the same identity, or lets one caller fetch for all (read.go),
//  4. login obtains the token, and vault reads with it (ask.go),
//  5. certificate decodes the secret of a certificate through decode, and files makes the files,
//  6. a failure becomes a sentinel error of package volume (explain.go).
//
// The package does not know CSI, mounts, or the machine. It reads neither files nor environment variables: [Options]
// has what it needs of them (roots, proxy, a function that reads files). No error and no log entry holds a value, a
// client secret, a token, an assertion or a response body.
package keyvault
