package driver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Each kind of failure has one code, and its text passes as it is. Through the socket, as a fetcher would fail.
func TestCodes(t *testing.T) {
	t.Parallel()
	f := newFakes()
	var failure error
	f.fetch = func(context.Context, volume.Request) (volume.Content, error) { return volume.Content{}, failure }
	h := startDriver(t, f)

	long := strings.Repeat("ä", volume.MaxText)
	for name, tc := range map[string]struct {
		err  error
		code codes.Code
		text string
	}{
		"invalid":         {volume.Errorf(volume.ErrInvalid, "bad x"), codes.InvalidArgument, "bad x"},
		"not found":       {volume.Errorf(volume.ErrNotFound, "no x"), codes.NotFound, "no x"},
		"denied":          {volume.Errorf(volume.ErrDenied, "not you"), codes.PermissionDenied, "not you"},
		"unauthenticated": {volume.Errorf(volume.ErrUnauthenticated, "who"), codes.Unauthenticated, "who"},
		"precondition":    {volume.Errorf(volume.ErrPrecondition, "off"), codes.FailedPrecondition, "off"},
		"unavailable":     {volume.Errorf(volume.ErrUnavailable, "down"), codes.Unavailable, "down"},
		"too large":       {volume.Errorf(volume.ErrTooLarge, "big"), codes.ResourceExhausted, "big"},
		"busy":            {volume.Errorf(errBusy, "busy"), codes.Aborted, "busy"},
		"bare sentinel":   {volume.ErrNotFound, codes.NotFound, "not found"},
		"wrapped":         {fmt.Errorf("while x: %w", volume.Errorf(volume.ErrDenied, "y")), codes.PermissionDenied, "while x: y"},
		"sentinel and deadline": {
			volume.Errorf(volume.ErrUnavailable, "vault: %w", context.DeadlineExceeded),
			codes.Unavailable, "vault: context deadline exceeded",
		},
		"deadline":      {fmt.Errorf("read: %w", context.DeadlineExceeded), codes.DeadlineExceeded, "read: context deadline exceeded"},
		"canceled":      {fmt.Errorf("read: %w", context.Canceled), codes.Canceled, "read: context canceled"},
		"anything else": {errors.New("mount: EPERM"), codes.Internal, "mount: EPERM"},
		"lines":         {volume.Errorf(volume.ErrDenied, "a\nb\r\tc\u2028d\x00e\x1b[31mf"), codes.PermissionDenied, "a b  c d e [31mf"},
		"not UTF-8":     {volume.Errorf(volume.ErrDenied, "a\xffb"), codes.PermissionDenied, "a\uFFFDb"},
		"long":          {volume.Errorf(volume.ErrDenied, "%s", long), codes.PermissionDenied, long[:volume.MaxText-4] + " …"},
		"printf":        {volume.Errorf(volume.ErrDenied, "100%%d"), codes.PermissionDenied, "100%d"},
	} {
		t.Run(name, func(t *testing.T) { // not parallel: the rows share one target
			failure = tc.err
			err := h.publish(t)
			wantStatus(t, err, tc.code, tc.text)
			if text := status.Convert(err).Message(); len(text) > volume.MaxText || !utf8.ValidString(text) {
				t.Errorf("%d bytes of text, valid UTF-8: %v", len(text), utf8.ValidString(text))
			}
		})
	}
}

// A panic ends only its own call. Its value is not logged, and the target is unlocked.
func TestPanic(t *testing.T) {
	t.Parallel()
	f := newFakes()
	f.fetch = func(context.Context, volume.Request) (volume.Content, error) { panic("value-of-the-panic") }
	f.usage = func(string) (volume.Usage, error) {
		var m map[string]int
		m["value-of-the-panic"]++ //nolint:govet,staticcheck // this is the panic
		return volume.Usage{}, nil
	}
	h := startDriver(t, f)

	const text = "internal error; see the driver's log"
	for range 2 {
		wantStatus(t, h.publish(t), codes.Internal, text)
	}
	_, err := h.node.NodeGetVolumeStats(t.Context(), statsRequest(h))
	wantStatus(t, err, codes.Internal, text)

	f.fetch = nil
	if err := h.publish(t); err != nil {
		t.Errorf("after a panic: %v", err)
	}
	log := h.log.String()
	if strings.Contains(log, "value-of-the-panic") {
		t.Error("the log has the panic's value")
	}
	for _, want := range []string{`"panic"`, "TestPanic.func1 status_test.go:", "(*nodeServer).replace publish.go:", `type="string"`, `type="runtime.`} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q", want)
		}
	}
}
