package api

import (
	"errors"
	"net"
	"net/url"
	"syscall"
	"testing"
)

// The same failure of two connections has one text, or it would be logged again for each.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	failure := func(port int) error {
		return &url.Error{Op: "Get", URL: "https://10.96.0.1/api", Err: &net.OpError{
			Op: "read", Net: "tcp", Err: syscall.ECONNRESET,
			Source: &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: port}, Addr: &net.TCPAddr{IP: net.IPv4(10, 96, 0, 1), Port: 443},
		}}
	}
	const want = "watch secrets: the API server cannot be reached: read tcp 10.96.0.1:443: connection reset by peer"
	for _, port := range []int{40001, 40002} {
		if err := explain("watch", failure(port)); err.Error() != want || !errors.Is(err, ErrAway) {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}
