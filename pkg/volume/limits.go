package volume

import "context"

// Limits bound the content of one volume's set. A zero field means no limit.
type Limits struct {
	Bytes int64 // the sum of the sizes of its files
	Files int
}

// Check gives an error that is ErrTooLarge if so many bytes in so many files are more than the limits allow. Its text does
// not say how many there are: whoever fetches stops at the limit and does not know.
func (l Limits) Check(bytes int64, files int) error {
	switch {
	case l.Bytes > 0 && bytes > l.Bytes:
		return Errorf(ErrTooLarge, "the volume's content is over the limit of %d bytes (--max-volume-bytes); ask for fewer or smaller objects", l.Bytes)
	case l.Files > 0 && files > l.Files:
		return Errorf(ErrTooLarge, "the volume is over the limit of %d files (--max-volume-files); ask for fewer objects", l.Files)
	}
	return nil
}

// Memory is what the node lets a volume have while it is fetched. Both methods may wait, as long as ctx lasts; an error ends
// the fetch.
type Memory interface {
	// Read waits until one more object may be read from a vault. done says that its files have been counted, or that there
	// are none.
	Read(ctx context.Context, vault string) (done func(), err error)
	// Hold counts the bytes of files, and of what else stays until the volume is there.
	Hold(ctx context.Context, bytes int64) error
}
