// Package certificate reads what Azure Key Vault keeps for a certificate, and writes its parts as files.
//
// The secret behind a certificate holds the private key, the leaf and its CAs. Its content type says how: the base64 text of
// a PKCS#12 file (application/x-pkcs12, also called PFX, RFC 7292) without a password, or PEM (application/x-pem-file, RFC
// 7468). [Split] reads both into a [Bundle], which gives each part in the form that a volume asks for. The certificates API
// gives the leaf alone ([FromDER]), the keys API a public key ([PublicKeyPEM]). A client certificate, by which an
// application logs in to Entra ID, is such a file too, possibly with a password ([ParseClient]).
//
// # Keys and certificates that Go does not know
//
// Key Vault has keys on the curve P-256K (secp256k1), and OpenSSL accepts certificates that crypto/x509 refuses. Their DER
// is passed on as it is. This is why the package reads PKCS#12 itself: go-pkcs12 refuses such files. It is used for writing.
//
// # Hostile files
//
// Tenants choose what the files hold, and no decoding can be interrupted. So each file has limits: the iterations of its key
// derivations together (maxIterations), the size of its private key (maxKeyBytes), the number of its certificates
// (maxCerts), the signatures that are checked to order them (maxChecks) and the keys that these are checked with
// (maxModulus). The iterations of a key that lies within an encrypted part are visible only after that part is decrypted.
// The reader counts each derivation before it makes it.
//
// # Limits of the package
//
// It is pure: no Azure, no network, no files, no context, no clock and no goroutines. It does not know how often it is
// called or at whose cost; callers limit that. Errors are the ends of sentences whose subject the caller knows. They hold no
// content of a file.
package certificate
