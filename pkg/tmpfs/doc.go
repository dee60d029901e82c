// Package tmpfs turns the content of a volume into a mounted directory, complete or not at all.
//
// A volume is one tmpfs in the layout of the kubelet's AtomicWriter, so programs that watch a Secret volume for rotations work here too:
//
//	..2026_11_23_02_20_11.123456789/    a set: the files of one version; its mtime is the fetch time of its oldest object
//	..data -> ..2026_11_23_02_20_11.123456789
//	password -> ..data/password         one link for each top-level name of the set
//
// [Store.Publish] writes the first set into a tmpfs that is not attached yet, and attaches it with one system call. Later sets get a
// folder of their own; renaming ..data makes them current. A process that is killed at any instant leaves the old set or the new one. All
// state is in the volume: a new process needs nothing from the one before.
//
// The superblock is read-only whenever the package is not writing. A read-only mount alone protects nothing, because container runtimes
// clear its flags (runc since 1.2). Rotations write through a private copy of the mount, and end with a comparison on the read-only file
// system: names, links, bytes, modes, owners, time. What another process has changed replaces the whole set and is reported in
// [volume.Outcome]. Root on the node, and so a privileged container, can remount anything.
//
// Linux refuses to make a file system read-only (EBUSY) while a file of it is open for writing, or a removed file or folder of it is still
// open (s_remove_count in fs/super.c). So a replaced set is kept while a container has a file of it open.
//
// Mounts are made by system calls on descriptors (Linux 5.12), because the image holds no mount(8), which k8s.io/mount-utils runs, and
// another process can rename folders on a path.
//
// The package imports neither CSI nor gRPC nor Azure code. Its errors are sentinels of package volume, or the kernel's.
package tmpfs
