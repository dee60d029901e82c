package volume

import (
	"errors"
	"fmt"
)

// The sentinel errors. Every failure of parsing, policy, fetching and storing that is not the caller's own context
// is one of these by errors.Is; the driver maps each to one gRPC code.
var (
	// ErrInvalid: the pod's volume attributes or Secret are wrong, or two objects write one file.
	ErrInvalid = errors.New("invalid volume")
	// ErrNotFound: the vault holds no such object or version.
	ErrNotFound = errors.New("not found")
	// ErrDenied: the vault or the operator's policy refuses this identity.
	ErrDenied = errors.New("permission denied")
	// ErrUnauthenticated: Entra ID or the vault does not accept the identity itself.
	ErrUnauthenticated = errors.New("unauthenticated")
	// ErrPrecondition: the object is there but cannot be used as asked: disabled, not decodable, not exportable.
	ErrPrecondition = errors.New("failed precondition")
	// ErrUnavailable: the vault or Entra ID cannot be reached, throttles, or fails.
	ErrUnavailable = errors.New("unavailable")
	// ErrTooLarge: the set is over the limits of a volume, or finds no memory on this node.
	ErrTooLarge = errors.New("over the limits of a volume")
)

// Errorf makes an error that is the sentinel by errors.Is and reads as exactly the formatted text: one line, stable
// from call to call (no request ids, no times), so that the kubelet can aggregate its events. A %w verb in the
// format keeps its operand reachable beside the sentinel.
func Errorf(sentinel error, format string, args ...any) error {
	return &failure{sentinel: sentinel, cause: fmt.Errorf(format, args...)}
}

type failure struct{ sentinel, cause error }

func (f *failure) Error() string   { return f.cause.Error() }
func (f *failure) Unwrap() []error { return []error{f.sentinel, f.cause} }
