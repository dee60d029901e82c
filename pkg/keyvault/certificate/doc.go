// Package certificate decodes what Azure Key Vault stores for a certificate, and writes its parts as files.
//
// The secret behind a certificate holds the private key, the leaf and its CAs. Its content type is the format: the
// base64 text of a PKCS#12 file (application/x-pkcs12, also called PFX, RFC 7292) without a password, or PEM
// (application/x-pem-file, RFC 7468). [Split] reads both into a [Bundle], which returns each part in the form that a
// volume needs. The certificates API has the leaf alone ([FromDER]), the keys API a public key ([PublicKeyPEM]). The
// client certificate of an application that logs in to Entra ID is such a file too, possibly with a password
// ([ParseClient]). The CA bundle of the operator is PEM too ([ParseCAs]).
//
// # Keys and certificates that Go does not support
//
// Key Vault has keys on the curve P-256K (secp256k1), and OpenSSL accepts certificates that crypto/x509 rejects.
// Their DER is copied unchanged. This is why the package reads PKCS#12 itself: go-pkcs12 rejects such files. It is
// used for writing only.
//
// # Damaged PEM
//
// All PEM is read by one function, which returns each block or the error [Damaged]. encoding/pem skips what it cannot
// read, so that a chain would lose certificates without an error.
//
// # Hostile files
//
// Tenants choose the content of the files, and no decoding can be interrupted. So each file has limits: the total
// iterations of its key derivations (maxIterations), the size of its private key (maxKeyBytes), the number of its
// certificates (maxCerts), the signature checks to order them (maxChecks) and the keys for these checks (maxModulus).
// The iterations of a key within an encrypted part are visible only after that part is decrypted. The reader counts
// each derivation before it makes it.
//
// # Limits of the package
//
// It is pure: no Azure, no network, no files, no context, no clock and no goroutines. It does not limit how often it
// is called; callers do. Errors are the ends of sentences whose subject the caller knows. They hold no content of a
// file.
package certificate
