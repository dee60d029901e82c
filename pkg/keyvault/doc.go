// Package keyvault answers a volume's request from Azure Key Vault: a [Client] takes a [volume.Request] and gives the
// complete set of files, or one error that says in one line what was asked, who refused it and what to do.
//
// This package is the way of a request. Each step is done by a package that knows nothing of the others:
//
//  1. login finds out how the identity logs in, and whether this pod has proven itself (fetch.go),
//  2. vault plans the distinct requests of the objects (reads.go),
//  3. cache answers what this node has read lately for the same identity, or lets one caller fetch for all (read.go),
//  4. login obtains the token, and vault reads with it (read.go),
//  5. certificate takes apart what a certificate's secret holds (decode.go), and the values become files (render.go),
//  6. whatever went wrong becomes a sentinel error of package volume (explain.go).
//
// The package does not know CSI, mounts, or the machine: it reads neither files nor environment variables, and whatever it
// needs of them (roots, proxy) comes in as [Options]. Nothing that it returns as an error or writes to a log has a value, a
// client secret, a token, an assertion or a response body.
package keyvault
