// Package provider serves the Secrets Store CSI Driver as its provider azure, in the terms of package volume.
//
// That driver mounts the volume, writes the files and calls Mount again at each of its rotation polls. This package
// decodes a call, lets a [Pipeline] read the content, and answers with files and the versions of their objects. It writes
// nothing on the node, and keeps of each volume only when it was seen.
//
// It must not know CSI, Azure or how the content is read.
package provider
