package cluster

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"

	"k8s.io/streaming/pkg/httpstream"
)

// closedStream ends at once, and a write to it waits until then.
type closedStream struct {
	httpstream.Stream
	read chan struct{}
}

func (s *closedStream) Read([]byte) (int, error) {
	defer close(s.read)
	return 0, io.EOF
}

func (s *closedStream) Write([]byte) (int, error) {
	<-s.read
	return 0, io.ErrClosedPipe
}

type noConnection struct{ httpstream.Connection }

func (noConnection) Close() error { return nil }

// The error of a port that cannot be forwarded is the same whether net/http sees the end of the connection before it writes or after.
func TestTheErrorOfAPortIsTheKubelets(t *testing.T) {
	t.Parallel()
	const want = "forward a port: connection refused"
	for range 100 {
		transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return &portConn{data: &closedStream{read: make(chan struct{})}, connection: noConnection{}, problem: func() string { return "connection refused" }}, nil
		}}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:1/volumes", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := transport.RoundTrip(request)
		if err == nil {
			_ = response.Body.Close()
			t.Fatal("there is an answer")
		}
		if got := withoutHTTP(err).Error(); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
}
