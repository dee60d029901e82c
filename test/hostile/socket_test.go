package hostile_test

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
)

// The frames of HTTP/2 (RFC 9113 section 6).
const (
	frameData         = 0
	frameHeaders      = 1
	frameReset        = 3
	frameSettings     = 4
	framePing         = 6
	frameContinuation = 9

	preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
)

func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	header := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	header = append(header, flags)
	header = binary.BigEndian.AppendUint32(header, stream)
	return append(header, payload...)
}

// call is the headers of a CSI call as HPACK literals (RFC 7541 section 6.2.2).
func call() []byte {
	var block []byte
	for _, pair := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", publishMethod}, {":authority", "x"},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		block = append(block, 0, byte(len(pair[0])))
		block = append(block, pair[0]...)
		block = append(block, byte(len(pair[1])))
		block = append(block, pair[1]...)
	}
	return block
}

// opening is the start of an HTTP/2 connection.
func opening() []byte { return append([]byte(preface), frame(frameSettings, 0, 0, nil)...) }

// The daemon drops input that is not gRPC, and too much gRPC.
func TestGarbage(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	random := make([]byte, 1<<20)
	_, _ = rand.Read(random)
	const (
		endHeaders = 4
		many       = 20_000
	)
	resets, pings, settings := opening(), opening(), opening()
	for i := range uint32(many) {
		resets = append(resets, frame(frameHeaders, endHeaders, 2*i+1, call())...)
		resets = append(resets, frame(frameReset, 0, 2*i+1, []byte{0, 0, 0, 8})...)
		pings = append(pings, frame(framePing, 0, 0, make([]byte, 8))...)
		settings = append(settings, frame(frameSettings, 0, 0, []byte{0, 4, 0, 0, 0xff, 0xff})...)
	}
	continued := append(opening(), frame(frameHeaders, 0, 1, call())...)
	for range 1000 {
		continued = append(continued, frame(frameContinuation, 0, 1, bytes.Repeat([]byte("\x00\x01x\x01y"), 3000))...)
	}
	tooMany := opening()
	for i := range uint32(1000) {
		tooMany = append(tooMany, frame(frameHeaders, endHeaders, 2*i+1, call())...)
	}
	// The length in gRPC's frame is 4 GiB, with little content.
	promised := append(opening(), frame(frameHeaders, endHeaders, 1, call())...)
	promised = append(promised, frame(frameData, 0, 1, []byte("\x00\xff\xff\xff\xff"+marker))...)
	compressed := append(opening(), frame(frameHeaders, endHeaders, 1, call())...)
	compressed = append(compressed, frame(frameData, 1, 1, []byte("\x01\x00\x00\x00\x02xx"))...)

	for name, bytes := range map[string][]byte{
		"random bytes":            random,
		"zeros":                   make([]byte, 1<<20),
		"HTTP/1.1":                []byte("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"),
		"TLS":                     []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("x", 500)),
		"half a preface":          []byte(preface[:12]),
		"preface, then garbage":   append([]byte(preface), random[:1<<16]...),
		"a frame of 16 MB":        append(opening(), 0xff, 0xff, 0xff, frameData, 0, 0, 0, 0, 1),
		"rapid resets":            resets,
		"pings":                   pings,
		"settings":                settings,
		"headers without an end":  continued,
		"more streams than slots": tooMany,
		"a promise of 4 GiB":      promised,
		"compressed, not really":  compressed,
		"bad HPACK":               append(opening(), frame(frameHeaders, endHeaders, 1, random[:1000])...),
		"a window of 2 GiB":       append(opening(), frame(frameSettings, 0, 0, []byte{0, 4, 0xff, 0xff, 0xff, 0xff})...),
		"a table of 4 GiB":        append(opening(), frame(frameSettings, 0, 0, []byte{0, 1, 0xff, 0xff, 0xff, 0xff})...),
	} {
		t.Run(name, func(t *testing.T) {
			conn := s.dial(t)
			defer func() { _ = conn.Close() }()
			began := time.Now()
			_ = conn.SetDeadline(began.Add(2 * time.Second))
			go func() { _, _ = io.Copy(io.Discard, conn) }()
			if _, err := conn.Write(bytes); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Logf("the daemon stopped reading, which it may do")
			}
			s.checkAlive(t)
			s.footprint(t)
			s.mu.Lock()
			s.inputs++
			s.mu.Unlock()
		})
	}
	s.verdict(t, "bytes at the socket")
}

func (s *fixture) dial(t *testing.T) net.Conn {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "unix", s.Socket)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// A thousand open connections: silent, half open, idle, or without reads. The daemon answers others meanwhile, and its descriptors are
// free afterwards.
func TestConnections(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	const each = 250
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < 8*each {
		t.Skipf("this process may have %d open files (%v); the test needs %d", limit.Cur, err, 8*each)
	}
	noReads := append(opening(), frame(frameSettings, 0, 0, []byte{0, 4, 0, 0, 0, 0})...)
	for i := range uint32(50) {
		noReads = append(noReads, frame(frameHeaders, 5, 2*i+1, call())...)
	}
	var held []net.Conn
	for _, say := range [][]byte{opening(), noReads, []byte(preface[:10]), nil} {
		for range each {
			conn := s.dial(t)
			held = append(held, conn)
			go func() { _, _ = conn.Write(say) }() // the daemon may stop reading
		}
		s.checkAlive(t)
	}
	// Otherwise the test would prove nothing. gRPC may have closed those without a handshake already.
	suite.Eventually(t, "most connections are held", func() bool { return s.footprint(t).Descriptors >= s.before.Descriptors+2*each })
	s.inputs += len(held)
	if suite.Long() { // gRPC has a timeout for the handshake
		suite.Eventually(t, "connections without a handshake are closed", func() bool {
			return s.footprint(t).Descriptors <= s.before.Descriptors+2*each+20
		})
	}
	for _, conn := range held {
		_ = conn.Close()
	}
	s.verdict(t, "connections that are held")
}
