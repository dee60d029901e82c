package driver

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

var (
	errBusy     = errors.New("busy")                                 // another call for the same target runs
	errInternal = errors.New("internal error; see the driver's log") // a panic, whose value may be a secret
)

// toStatus is the only place that gives errors gRPC codes. The text is the error's own, on one line.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	var s interface{ GRPCStatus() *status.Status } // of the generated servers: Unimplemented
	if errors.As(err, &s) {
		return s.GRPCStatus().Err()
	}
	return status.Error(codeOf(err), oneLine(err.Error()))
}

// codeOf returns the code of the first sentinel that the error is. The context's come last: an error of a vault that says
// that there was no time is about the vault.
func codeOf(err error) codes.Code {
	for _, c := range []struct {
		sentinel error
		code     codes.Code
	}{
		{volume.ErrInvalid, codes.InvalidArgument},
		{volume.ErrNotFound, codes.NotFound},
		{volume.ErrDenied, codes.PermissionDenied},
		{volume.ErrUnauthenticated, codes.Unauthenticated},
		{volume.ErrPrecondition, codes.FailedPrecondition},
		{volume.ErrUnavailable, codes.Unavailable},
		{volume.ErrTooLarge, codes.ResourceExhausted},
		{errBusy, codes.Aborted},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
		{context.Canceled, codes.Canceled},
	} {
		if errors.Is(err, c.sentinel) {
			return c.code
		}
	}
	return codes.Internal
}

func oneLine(text string) string { return volume.OneLine(text, volume.MaxText) }
