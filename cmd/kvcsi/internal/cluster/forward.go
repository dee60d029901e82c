package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
)

// maxAnswer bounds what a driver answers: 10,000 volumes with an error each.
const maxAnswer = 64 << 20

// Listing is what the driver of a node says about its volumes.
type Listing struct {
	Now     time.Time // by the clock of the node
	Volumes []ListedVolume
}

// ListedVolume is one volume; docs/reference.md explains the fields.
type ListedVolume struct {
	ID              string
	Fetched         *time.Time
	Reason, Message string
	Certificates    []Expiry
}

// Expiry is the end of the validity of the certificate in a file.
type Expiry struct {
	File     string    `json:"file"`
	NotAfter time.Time `json:"notAfter"`
}

// Volumes asks the driver of one node for its volumes, through a forwarded port. No port is opened on this machine.
func (c *Client) Volumes(ctx context.Context, d Driver) (l Listing, err error) {
	if d.port == 0 {
		return l, fmt.Errorf("the driver's pod %s has no port called http", d.Pod.Metadata.Name)
	}
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return c.forward(ctx, d.Pod, d.port) },
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+strconv.Itoa(d.port)+"/volumes", http.NoBody)
	if err != nil {
		return l, err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return l, withoutHTTP(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	switch {
	case err != nil:
		return l, err
	case response.StatusCode == http.StatusNotFound:
		return l, errors.New("it is of a version that has no /volumes; upgrade it")
	case response.StatusCode != http.StatusOK:
		return l, fmt.Errorf("it answers %d: %s", response.StatusCode, oneLine(string(body[:min(len(body), 500)])))
	}
	if err := json.Unmarshal(body, &l); err != nil {
		return l, fmt.Errorf("its answer cannot be read: %w", err)
	}
	for i, v := range l.Volumes {
		l.Volumes[i].Message = oneLine(v.Message)
		for j, c := range v.Certificates {
			v.Certificates[j].File = oneLine(c.File)
		}
	}
	return l, nil
}

// forward connects to a port of a pod: by WebSocket, or by SPDY if the API server or a proxy before it does not know that.
func (c *Client) forward(ctx context.Context, p Pod, port int) (net.Conn, error) {
	where := c.rest.Post().AbsPath("/api/v1/" + namespaced(p.Metadata.Namespace, "pods/"+p.Metadata.Name+"/portforward")).URL()
	transport, upgrader, err := spdy.RoundTripperFor(c.config)
	if err != nil {
		return nil, err
	}
	bySPDY := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, where)
	byWebSocket, err := portforward.NewSPDYOverWebsocketDialerForStreaming(where, c.config)
	if err != nil {
		return nil, err
	}
	dialer := portforward.NewFallbackDialerForStreaming(byWebSocket, bySPDY, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	connected := make(chan error, 1)
	var connection httpstream.Connection
	go func() { // the dialers know no context
		var err error
		connection, _, err = dialer.Dial(portforward.PortForwardProtocolV1Name)
		connected <- err
	}()
	select {
	case err := <-connected:
		if err != nil {
			return nil, explainForward(err)
		}
	case <-ctx.Done():
		go func() {
			if <-connected == nil {
				_ = connection.Close()
			}
		}()
		return nil, ctx.Err()
	}
	return openPort(connection, port)
}
