package suite

import (
	"io"
	"net/http"
	"strconv"
	"strings"
)

// Response is an answer to a request, with one header, for a test that plays a service as an [http.RoundTripper].
func Response(req *http.Request, status int, body, name, value string) *http.Response {
	return &http.Response{
		Status: strconv.Itoa(status) + " " + http.StatusText(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{name: {value}}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: req,
	}
}
