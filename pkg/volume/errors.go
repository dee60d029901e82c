package volume

import (
	"errors"
	"fmt"
)

// The sentinel errors. By errors.Is, every failure of parsing, policy, fetching and storing is one of these or an error
// of the caller's context. The driver maps each to one gRPC code.
var (
	// ErrInvalid: the pod's volume attributes or Secret are wrong, or two objects write one file.
	ErrInvalid = errors.New("invalid volume")
	// ErrNotFound: the vault holds no such object or version.
	ErrNotFound = errors.New("not found")
	// ErrDenied: the vault or the operator's policy refuses this identity.
	ErrDenied = errors.New("permission denied")
	// ErrUnauthenticated: Entra ID or the vault does not accept the identity itself.
	ErrUnauthenticated = errors.New("unauthenticated")
	// ErrPrecondition: the object exists but cannot be used as requested: disabled, not decodable, not exportable.
	ErrPrecondition = errors.New("failed precondition")
	// ErrUnavailable: the vault or Entra ID cannot be reached, throttles, or fails.
	ErrUnavailable = errors.New("unavailable")
	// ErrTooLarge: the content is over the limits of a volume, or over the memory of the driver.
	ErrTooLarge = errors.New("over the limits of a volume")
)

// Errorf returns an error that is the sentinel by errors.Is. Its text is the formatted text: one line, without request
// ids and times, so that the kubelet can aggregate its events. A %w verb keeps its operand reachable as well.
func Errorf(sentinel error, format string, args ...any) error {
	return &failure{sentinel: sentinel, cause: fmt.Errorf(format, args...)}
}

type failure struct{ sentinel, cause error }

func (f *failure) Error() string   { return f.cause.Error() }
func (f *failure) Unwrap() []error { return []error{f.sentinel, f.cause} }
