package tmpfs

import (
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// The mtime of a set is the fetch time of the oldest object in it. It also says whether the set was published in an outage: then, and
// only then, it is the last nanosecond of a millisecond. An extended attribute would take CAP_SYS_ADMIN of the machine, and a mode bit
// or a name could not be taken away without replacing the set.
const outagePrecision = time.Millisecond

// mtime is the time of a set as its folder has it: never later than its fetch time, and earlier by a millisecond at most. The zero time
// becomes the oldest there is: package os would leave the mtime as it is, and the set would seem fresh.
func mtime(c volume.Content) time.Time {
	fetched := c.Fetched
	if fetched.IsZero() {
		fetched = time.Unix(0, 0)
	}
	switch {
	case c.Outage != nil:
		return fetched.Truncate(outagePrecision).Add(-time.Nanosecond)
	case ofOutage(fetched):
		return fetched.Add(-time.Nanosecond)
	}
	return fetched
}

// ofOutage says whether a set with that mtime was published in an outage. Versions of the driver that did not say so have left one set
// in a million that seems to be: it is refreshed once too often.
func ofOutage(mtime time.Time) bool {
	return mtime.Add(time.Nanosecond).Truncate(outagePrecision).Equal(mtime.Add(time.Nanosecond))
}
