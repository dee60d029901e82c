package volume

import (
	"context"
	"io/fs"
	"time"
)

// Content is the complete set of files for a [Request].
type Content struct {
	Files   []File   // sorted by path, each path once
	Folders []string // exist even when empty, beside those of the paths of Files

	// Fetched is when the oldest object of the set was read from its vault, or was last in a list that shows no change; the
	// age of the volume counts from here. In a refresh, objects with a pinned version do not count, because they cannot
	// change.
	Fetched time.Time

	// Read is when the oldest of these objects was read from its vault: before Fetched if a list shows no change. Zero means
	// Fetched.
	Read time.Time

	// Versions are those of the objects with an ID, or of all with [Request.AllVersions], in the order of the objects.
	Versions []Version

	// Notes are what the set lacks although that is no error, such as a private key that is not exportable; one line each.
	Notes []string

	// Gaps are the chains of certificates in which an intermediate is missing; one line each.
	Gaps []string

	// Expiries are the ends of the validity of the certificates in the set, at most [MaxExpiries], the soonest first.
	Expiries []Expiry

	// Outage is why some objects are the last known values instead of current ones; nil if all are current. It is
	// [ErrUnavailable].
	Outage error
}

// MaxExpiries bounds [Content.Expiries], because a pod chooses how many certificates it has.
const MaxExpiries = 10

// Expiry is when the certificate in a file of a volume ends.
type Expiry struct {
	File     string // its path; of several files with the certificate, one that has it in PEM
	NotAfter time.Time
}

// File is one file of a volume.
type File struct {
	Path string      // slash-separated, relative, validated by Parse
	Mode fs.FileMode // permission bits; 0 means the default of the volume (0644, with fsGroup 0640)
	Data Secret

	// Keeps reports whether the bytes that the volume has at this path say the same as Data. If they do, and nothing else
	// of the set has changed, the file keeps them. nil means that only equal bytes are the same.
	Keeps func(there []byte) bool `json:"-" yaml:"-"` // not data
}

// Version is which version of an object a set has.
type Version struct {
	ID     string // see [Object.ID]
	Source string // see [Object.Source]
	Kind   Kind
	Vault  string
	Name   string

	Version  string            // 32 lower-case hex digits in Azure
	Expires  time.Time         // the vault's "exp"; zero if there is none
	NotAfter time.Time         // end of the validity of a certificate, if files were made of it
	Tags     map[string]string // only if a manifest has them
	Absent   bool              // the object is optional, and does not exist or is disabled
	Paths    []string          // of the object's files
}

// Mount is what the kubelet asks for beside the content.
type Mount struct {
	Target string  // absolute path of the pod's volume
	Group  *uint32 // the pod's fsGroup; nil if it has none
}

// State is what exists at the target of a volume.
type State struct {
	Published bool      // a complete set is there
	Fetched   time.Time // when the oldest of its objects was fetched; zero if that is in the future

	// Unverified means that something else could have changed the set. It must be refreshed now, whatever its age.
	Unverified bool

	// Outage means that the set was published in an outage. It must be refreshed, whatever the interval, until a refresh
	// succeeds.
	Outage bool
}

// Outcome is what a publish found and did.
type Outcome struct {
	Changed  bool   // files changed, because their content did or because Tampered is not empty
	Tampered string // what something else changed and this publish repaired; one line, empty if nothing
	Writable string // why the file system could not be made read-only again; one line, empty if it is read-only
}

// Usage is what a mounted volume occupies.
type Usage struct {
	TotalBytes, UsedBytes, AvailableBytes    int64
	TotalInodes, UsedInodes, AvailableInodes int64
}

// Limits bound the content of one volume. A zero field means no limit.
type Limits struct {
	Bytes int64 // the sum of the sizes of its files
	Files int
}

// Check returns an error that is [ErrTooLarge] if the bytes or files are over the limits. The error does not say how many
// there are: a fetch stops at the limit.
func (l Limits) Check(bytes int64, files int) error {
	switch {
	case l.Bytes > 0 && bytes > l.Bytes:
		return Errorf(ErrTooLarge, "the volume's content is over the limit of %d bytes (--max-volume-bytes); ask for fewer or smaller objects", l.Bytes)
	case l.Files > 0 && files > l.Files:
		return Errorf(ErrTooLarge, "the volume is over the limit of %d files (--max-volume-files); ask for fewer objects", l.Files)
	}
	return nil
}

// Memory reserves the memory of one fetch. Both methods wait until there is enough, at most as long as ctx lasts. An
// error ends the fetch.
type Memory interface {
	// Read waits until one more object may be read from a vault. done must be called when its files are counted with
	// Hold, or when there are none.
	Read(ctx context.Context, vault string) (done func(), err error)
	// Hold counts the bytes of files, and of whatever else stays until the volume exists.
	Hold(ctx context.Context, bytes int64) error
}
