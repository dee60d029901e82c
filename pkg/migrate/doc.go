// Package migrate turns the manifests of other tools into manifests with this driver's volume: pods with the init
// container acs-keyvault-agent ("the agent"), and pods that use a SecretProviderClass of the Azure provider of the
// Secrets Store CSI Driver. It also finds this driver's volumes in manifests, so that they can be checked offline.
//
// Comments, the order of keys and line ends of a manifest are kept. So manifests are not decoded and encoded again. The
// YAML library gives the positions of nodes; the package plans a few changes (change.go), and each becomes the
// replacement of a few bytes (text.go, edit.go, block.go). All other bytes stay. At the end the new text is parsed and
// must be exactly the old tree with those changes, and every new volume must pass [volume.Parse], the driver's own
// parser. If not, the object is not changed, and a finding is reported.
//
// Texts that another tool fills in later ({{ .Values.x }}, ${X}) are parsed as plain texts and carried over (placeholder.go). At the end the
// new documents are searched for what is left of the other tools (leftover.go): whatever the planning did not understand is reported there,
// so that a result without a finding above [Note] lacks nothing.
//
// The package has no side effects: no files, no network, no cluster. It does not guess what it cannot see, such as the
// content of a ConfigMap, but reports it as a [Finding].
package migrate
