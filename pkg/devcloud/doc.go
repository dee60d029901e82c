// Package devcloud is a Key Vault, an Entra ID and an instance metadata service in one process, for the demo, the tests
// and whoever has no Azure at hand. It is never linked into the daemon, and the daemon knows nothing of it.
//
// It is real HTTP over TLS, not a stub below an SDK: a client that is not changed in any way reaches it under the real
// names, with two environment variables.
//
//	HTTPS_PROXY=http://127.0.0.1:PORT    the CONNECT proxy, which joins *.vault.azure.net, login.microsoftonline.com and
//	                                     the hosts of the other clouds to the TLS listener
//	SSL_CERT_FILE=ca.pem                 the certificate authority that the cloud made when it was started
//
// # What it does
//
// A vault answers GET for secrets, certificates and keys, their versions and their lists (25 to a page), with the
// JSON, the headers and the errors of Azure: the 401 challenge, innererror codes, and texts that name the caller. It
// verifies the access tokens, so that a wrong tenant, audience or an expired token is found out. Entra ID issues them
// for client secrets, for federated assertions, of which issuer, subject, audience, signature and time are checked,
// and for assertions signed with a registered certificate, or with one of a trusted name and issuer; its errors carry
// AADSTS codes, and a trace id and a time that make each text another. The metadata service gives out tokens of
// managed identities.
//
// A [Fault] throttles, fails, delays, hangs, cuts or resets requests, a vault's clock may go wrong ([Vault.SetClock]) and so
// may its TLS ([Vault.SetServerCertificate]); [Cloud.Count] tells how many requests there were,
// so that a test can hold a client to an exact number. The admin API has the same over HTTP: GET of [Cloud.AdminURL]
// explains it.
//
// # What it does not
//
// It does not write through Key Vault's own API, does not convert between content types (outContentType), knows no
// managed HSM, no user logins, no continuous access evaluation, and no private links. A vault that does not exist fails
// in Azure's DNS; here the proxy answers 502 with the text of a failed look-up. A directory is known in all clouds. Texts
// are Azure's where they are publicly known, and in its manner where they are not: do not take this package as proof of
// what Azure says.
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
