// Package v1alpha1 is the protocol between the Secrets Store CSI Driver and its providers, made from provider.proto by
// make generate. It must not know what a provider does.
package v1alpha1
