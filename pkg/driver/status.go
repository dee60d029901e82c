package driver

import (
	"context"
	"errors"
	"strings"
	"unicode"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// errBusy: another call for the same target runs. It belongs to this package alone, as does the claim behind it.
var errBusy = errors.New("busy")

// maxText bounds the text of a status, in bytes: above the 4 KiB that volume.Problems keeps itself to, below the 8 KiB
// that some HTTP/2 implementations allow for trailers.
const maxText = 5 << 10

// toStatus makes the error of a handler a gRPC status: the one place that knows about codes. The text is the error's
// own, on one line.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	// The generated servers answer what a driver does not implement by themselves.
	var s interface{ GRPCStatus() *status.Status }
	if errors.As(err, &s) {
		return s.GRPCStatus().Err()
	}
	return status.Error(codeOf(err), oneLine(err.Error()))
}

// codeOf judges by sentinel first: an error that says what a vault did, and that this was for want of time, is about
// the vault.
func codeOf(err error) codes.Code {
	switch {
	case errors.Is(err, volume.ErrInvalid):
		return codes.InvalidArgument
	case errors.Is(err, volume.ErrNotFound):
		return codes.NotFound
	case errors.Is(err, volume.ErrDenied):
		return codes.PermissionDenied
	case errors.Is(err, volume.ErrUnauthenticated):
		return codes.Unauthenticated
	case errors.Is(err, volume.ErrPrecondition):
		return codes.FailedPrecondition
	case errors.Is(err, volume.ErrUnavailable):
		return codes.Unavailable
	case errors.Is(err, volume.ErrTooLarge):
		return codes.ResourceExhausted
	case errors.Is(err, errBusy):
		return codes.Aborted
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	default:
		return codes.Internal
	}
}

// oneLine makes any text fit for an event: valid UTF-8 (gRPC requires it), no line breaks or other control
// characters, at most maxText bytes.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	if len(text) <= maxText {
		return text
	}
	const cut = " …"
	return strings.ToValidUTF8(text[:maxText-len(cut)], "") + cut
}
