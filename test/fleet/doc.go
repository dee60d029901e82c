// Package fleet simulates many nodes at one vault, in virtual time (testing/synctest): the client of pkg/keyvault as it is, N
// times in one process, and in the place of HTTPS a transport that answers as a vault with Key Vault's published limits
// (https://learn.microsoft.com/azure/key-vault/general/service-limits). What is measured is demand, so there is no TLS, no
// login and no mount. [Volume] in volume.go does what the kubelet and the driver do about one volume.
//
// Beside it, polling.go simulates what a driver without a shared cache and without a throttle does.
//
// `make fleet` prints the table of docs/performance.md. The short form is part of `make test`.
package fleet
