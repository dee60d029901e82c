// Package providerclass reads a SecretProviderClass as the Azure provider of the Secrets Store CSI Driver (version 1.8) does: which
// parameters there are, how its objects are decoded, and which files they become. [Request] turns a class into a
// [volume.Request]. Package migrate uses the parts to turn a class into attributes of this driver.
//
// The package does not know Kubernetes manifests, gRPC, or what a vault holds.
package providerclass
