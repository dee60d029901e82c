// Package migrate turns the manifests of other tools into manifests with this driver's volume: pods with the init
// container acs-keyvault-agent ("the agent"), and pods that use a SecretProviderClass of the Azure provider of the
// Secrets Store CSI Driver. It also finds this driver's volumes in manifests, so that they can be checked offline.
//
// A manifest belongs to people: its comments, the order of its keys and its line ends stay. So nothing here is decoded
// and written anew. The YAML library tells where things stand; the package decides on a few changes (change.go), each
// of which becomes the replacement of a few bytes (text.go, edit.go, block.go). Whatever is not replaced is the input, byte for
// byte. In the end the new text is parsed again and must be exactly the old tree with those changes, and every volume
// that was made must pass [volume.Parse], the driver's own parser. What does not is left alone and reported.
//
// The package is pure: no files, no network, no cluster. Therefore it never guesses at what it cannot see, such as the
// content of a ConfigMap: it says so in a [Finding], and the one who calls decides what to tell whom.
package migrate
