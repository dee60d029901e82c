package vault

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Stamp is what a vault shows of an object both with its content and in a list: the times of its creation and of its last
// change, its dates, whether it is enabled, its content type and tags, and the thumbprint of a certificate. The zero value
// means that it is not known, or must not be relied on. It is a hash, because lists are kept in memory.
type Stamp [16]byte

// settled is the least time between the last change of an object and a read whose [Stamp] may be relied on. The times of a
// vault are seconds and rounded, so that several changes in one second leave the same "updated". A change that the read has
// missed is of a later second if the read was later than this; the rest is for the clocks of the vault's servers, one of
// which has written "updated" and another the Date of the answer.
const settled = time.Minute

// shown is what a [Stamp] is made of.
type shown struct {
	enabled                              *bool
	created, updated, notBefore, expires *time.Time
	contentType                          *string
	tags                                 map[string]*string
	thumbprint                           []byte
}

// stamp returns the stamp of a list's entry.
func (s shown) stamp() (stamp Stamp) {
	if s.created == nil || s.updated == nil {
		return Stamp{}
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%t %d %d %d %d %q %q %x", s.enabled == nil || *s.enabled, unix(s.created), unix(s.updated),
		unix(s.notBefore), unix(s.expires), deref(s.contentType), tagsOf(s.tags), s.thumbprint))
	copy(stamp[:], sum[:])
	return stamp
}

// unix returns seconds since 1970; -1 if there is no time.
func unix(t *time.Time) int64 {
	if t == nil {
		return -1
	}
	return t.Unix()
}

// readStamp returns the stamp of an object that was read. Both times are of the vault: the clock of the node does not matter.
func (s shown) readStamp(answer *http.Response) Stamp {
	if answer == nil || s.updated == nil {
		return Stamp{}
	}
	date, err := http.ParseTime(answer.Header.Get("Date"))
	if err != nil || date.Sub(*s.updated) < settled {
		return Stamp{}
	}
	return s.stamp()
}

// listedStamp returns the stamp of a list's entry; none if its identifier names another vault.
func listedStamp[ID ~string](vault string, id *ID, s shown) Stamp {
	u, err := url.Parse(string(deref(id)))
	if err != nil || !strings.EqualFold("https://"+strings.TrimSuffix(u.Host, ":443"), vault) {
		return Stamp{}
	}
	return s.stamp()
}
