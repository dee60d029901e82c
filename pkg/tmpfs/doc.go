// Package tmpfs turns the content of a volume into a mounted directory, all of it or nothing.
//
// A volume is one tmpfs. Inside, the layout is the one that the kubelet gives its own Secret volumes, so that programs
// which watch for a rotation there find the same signs here:
//
//	..2026_11_23_02_20_11.123456789/    one complete set; its mtime is the fetch time of the oldest object in it (mtime.go)
//	..data -> ..2026_11_23_02_20_11.123456789
//	password -> ..data/password         one link for each top-level name of the set
//	tls -> ..data/tls
//
// [Store.Publish] writes the first set into a tmpfs that is attached nowhere yet, and attaches it, read-only, with one
// system call. Later sets get a folder of their own; renaming ..data makes them current. Killing the process at any
// instant therefore leaves the set before or the set after. The set itself is the only memory of a volume: nothing in the
// process is needed by the next call, so restarts, upgrades and crashes of the driver lose nothing.
//
// # Read-only
//
// The file system is read-only, its superblock and not only its mount, whenever the package is not writing: container runtimes
// clear the flags of a mount that they were not asked for (runc since 1.2), so the attribute of a mount protects nothing. A rotation
// makes it writable for as long as it writes, through a private copy of the mount which no other process can reach.
//
// Every update ends with a comparison that is made after the file system has become read-only again: names, links, bytes, modes,
// owners, the time. What somebody else has changed replaces the whole set and is told in [volume.Outcome]. A volume that is found
// writable was left so by a killed process; [Store.Inspect] makes it read-only and calls it unverified.
//
// Linux refuses to make a file system read-only (EBUSY) while a file of it is open for writing, or while a removed file or folder of
// it is still open (s_remove_count in fs/super.c). The latter is why a replaced set is kept as long as a container has one of its files
// open. A privileged container is root on the node, and can remount anything.
//
// Each set carries the fingerprint of what was written, in an extended attribute that takes CAP_SYS_ADMIN (mark.go): so also a new
// process tells a forgery from a value that is out of date.
//
// # System calls instead of mount(8)
//
// The image of the driver holds no programs, and starting one costs more than sixty times the call. k8s.io/mount-utils only
// runs mount(8) and umount(8) (its constructor already does), follows symbolic links, and has no words for a detached
// mount; its check for a mount point is the same statx(2) as here. So all of the mounting is done with the calls of
// golang.org/x/sys/unix: fsopen(2), fsmount(2), move_mount(2), open_tree(2) and mount_setattr(2) (Linux 5.12), and where a
// kernel or a seccomp filter refuses one of them, mount(2) in a mount namespace that lives as long as the call.
//
// # Room
//
// A tmpfs is sized for two sets of the greatest content allowed, because a rotation holds both; file sizes are
// counted in whole pages, so a set of very many very small files fits as well. The sets that subPath mounts keep alive come
// on top: the tmpfs grows before a rotation. Memory is used only for what is there.
//
// What all volumes of the node take together is bounded by the memory of the driver, see [Options.Memory] and budget.go.
//
// The package knows about mounts and files. It may not know what the files mean: it imports neither CSI nor gRPC nor
// Azure code, and its errors, where they are not the kernel's, are the sentinels of package volume.
package tmpfs
