package cluster

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/streaming/pkg/httpstream"
)

// The headers of a stream (pkg/apis/core of Kubernetes: StreamType, PortHeader, PortForwardRequestIDHeader).
const (
	streamType      = "streamType"
	portHeader      = "port"
	requestIDHeader = "requestID"
)

// openPort opens the two streams of one forwarded connection.
func openPort(connection httpstream.Connection, port int) (net.Conn, error) {
	headers := http.Header{}
	headers.Set(streamType, "error")
	headers.Set(portHeader, strconv.Itoa(port))
	headers.Set(requestIDHeader, "0")
	problems, err := connection.CreateStream(headers)
	if err != nil {
		_ = connection.Close()
		return nil, fmt.Errorf("forward a port: %w", err)
	}
	_ = problems.Close() // nothing is written to it
	headers.Set(streamType, "data")
	data, err := connection.CreateStream(headers)
	if err != nil {
		_ = connection.Close()
		return nil, fmt.Errorf("forward a port: %w", err)
	}
	problem := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(io.LimitReader(problems, 4<<10))
		problem <- string(text)
	}()
	return &portConn{data: data, connection: connection, problem: sync.OnceValue(func() string { return <-problem })}, nil
}

// portError is what the kubelet says about a port that it cannot forward.
type portError string

func (e portError) Error() string { return "forward a port: " + string(e) }

// withoutHTTP returns the error of the kubelet alone. net/http puts words of its own in front if the connection ends before the request
// is written, which depends on the speed of both.
func withoutHTTP(err error) error {
	if problem, ok := errors.AsType[portError](err); ok {
		return problem
	}
	return err
}

// portConn is a forwarded connection. Closing it ends its reads; it has no deadlines.
type portConn struct {
	data       httpstream.Stream
	connection httpstream.Connection
	problem    func() string // of the kubelet; empty if there was none
}

func (c *portConn) Read(p []byte) (int, error) {
	n, err := c.data.Read(p)
	return n, c.explain(err)
}

func (c *portConn) Write(p []byte) (int, error) {
	n, err := c.data.Write(p)
	return n, c.explain(err)
}

// explain replaces the end of the connection by what the kubelet says about it.
func (c *portConn) explain(err error) error {
	if err == nil {
		return nil
	}
	if problem := c.problem(); problem != "" {
		return portError(oneLine(problem))
	}
	return err
}

func (c *portConn) Close() error { return c.connection.Close() }

type portAddr struct{}

func (portAddr) Network() string { return "portforward" }
func (portAddr) String() string  { return "pod" }

func (*portConn) LocalAddr() net.Addr              { return portAddr{} }
func (*portConn) RemoteAddr() net.Addr             { return portAddr{} }
func (*portConn) SetDeadline(time.Time) error      { return nil }
func (*portConn) SetReadDeadline(time.Time) error  { return nil }
func (*portConn) SetWriteDeadline(time.Time) error { return nil }

// explainForward makes one line of the error of a dialer, which repeats the text of the API server and loses its code.
func explainForward(err error) error {
	text := strings.TrimPrefix(oneLine(err.Error()), "unable to upgrade connection: ")
	if strings.Contains(text, " is forbidden: ") {
		return fmt.Errorf("%w: %s", ErrForbidden, text)
	}
	return errors.New("forward a port: " + text)
}
