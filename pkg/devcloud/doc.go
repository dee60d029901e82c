// Package devcloud is a Key Vault, an Entra ID and an instance metadata service in one process, for the demo, the tests
// and development without Azure. It is never linked into the daemon, and the daemon must not depend on it.
//
// It serves HTTP over TLS and is no stub below an SDK: unmodified clients reach it under the real names, with two
// environment variables.
//
//	HTTPS_PROXY=http://127.0.0.1:PORT    the CONNECT proxy, which connects *.vault.azure.net, login.microsoftonline.com and
//	                                     the hosts of the other clouds to the TLS listener
//	SSL_CERT_FILE=ca.pem                 the certificate authority that the cloud made when it was started
//
// # What it does
//
// A vault answers GET for secrets, certificates and keys, their versions and their lists (25 to a page at most), with the
// JSON, the headers and the errors of Azure: the 401 challenge, innererror codes, and texts that name the caller. It
// verifies access tokens and refuses a wrong tenant or audience and an expired token. Entra ID issues tokens for client
// secrets, for federated assertions (it checks issuer, subject, audience, signature and time), and for assertions signed
// with a registered certificate or with one of a trusted name and issuer. Its errors have AADSTS codes, and a trace id
// and a time that make each text different. The metadata service issues tokens of managed identities.
//
// A [Fault] throttles, fails, delays, hangs, cuts or resets requests. The clock of a vault can be wrong ([Vault.SetClock])
// and so can its TLS certificate ([Vault.SetServerCertificate]). [Cloud.Count] counts the requests, so that a test can
// assert an exact number. The admin API has the same over HTTP: GET of [Cloud.AdminURL] explains it.
//
// # What it does not do
//
// It has no write operations of Key Vault's own API, no conversion between content types (outContentType), no managed HSM,
// no user logins, no continuous access evaluation, and no private links. The name of a vault that does not exist fails in
// Azure's DNS; here the proxy answers 502 with the text of a failed look-up. A directory exists in all clouds. Texts are
// Azure's where they are publicly known, and similar where they are not: this package is no proof of what Azure answers.
//
// # In a test
//
//	cloud, err := devcloud.Start(t.Context(), devcloud.Options{})
//	t.Cleanup(cloud.Close)
//	vault, err := cloud.AddVault("shop", devcloud.VaultOptions{Tenant: tenant})
//	vault.SetSecret("db-password", "value", devcloud.SecretOptions{})
//	err = cloud.AddIdentity(devcloud.Identity{Tenant: tenant, ClientID: id, Secrets: []devcloud.ClientSecret{{Value: "s"}}})
//	vault.Grant(id, devcloud.SecretsGet)
//	transport := cloud.HTTPClient()
//	...
//	if n := cloud.Count(devcloud.CountKey{Service: devcloud.ServiceVault}); n != 1 { ... }
package devcloud
