package volume

import (
	"io/fs"
	"time"
)

// Content is what answers a [Request]: a complete set of files, or an error in its place; never a part.
type Content struct {
	Files   []File   // in the order of their paths, each path once
	Folders []string // exist even when empty, beside those that the paths of Files imply

	// Fetched is when the oldest object of the set was read from its vault. The age of a volume counts from here. In a
	// refresh an object of a pinned version, which cannot change, does not count.
	Fetched time.Time

	// Outage is why objects of the set are the last that this node saw instead of what the vault holds now; nil when
	// there is nothing to say. It is volume.ErrUnavailable.
	Outage error
}

// File is one file of a volume.
type File struct {
	Path string      // slash-separated, relative, validated by Parse
	Mode fs.FileMode // permission bits; 0 means the default of the volume (0644, with fsGroup 0640)
	Data Secret
}

// Mount is what the kubelet asks of the mount itself, beside its content.
type Mount struct {
	Target string  // absolute path at which the pod's volume appears
	Group  *uint32 // the pod's fsGroup; nil when it has none
}

// State is what stands at the target of a volume.
type State struct {
	Published bool      // a complete set is there
	Fetched   time.Time // when the oldest of its objects was fetched; zero if that lies in the future

	// Unverified says that somebody else could have changed the set: it must be refreshed now, however young it is.
	Unverified bool

	// Outage says that the set was published in an outage: it is due, whatever the interval, until a refresh has worked.
	Outage bool
}

// Outcome is what a publish has found at a target, and done.
type Outcome struct {
	Changed  bool   // files changed, because their content did or because Tampered is not empty
	Tampered string // what somebody else had changed, and this publish has put right; one line, empty if nothing
	Writable string // why the file system could not be made read-only again; one line, empty if it is read-only
}

// Usage is what a mounted volume occupies.
type Usage struct {
	TotalBytes, UsedBytes, AvailableBytes    int64
	TotalInodes, UsedInodes, AvailableInodes int64
}
