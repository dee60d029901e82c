package volume

import (
	"errors"
	"fmt"
)

// The sentinel errors. By errors.Is, every failure of parsing, policy, fetching and storing is one of these or an error
// of the caller's context. The driver maps each to one gRPC code.
var (
	ErrInvalid         = errors.New("invalid volume")              // wrong attributes or Secret, or two objects write one file
	ErrNotFound        = errors.New("not found")                   // the vault holds no such object or version
	ErrDenied          = errors.New("permission denied")           // the vault or the operator's policy refuses the identity
	ErrUnauthenticated = errors.New("unauthenticated")             // Entra ID or the vault does not accept the identity itself
	ErrPrecondition    = errors.New("failed precondition")         // the object is disabled, not decodable or not exportable
	ErrUnavailable     = errors.New("unavailable")                 // the vault or Entra ID is unreachable, throttles, or fails
	ErrTooLarge        = errors.New("over the limits of a volume") // or over the memory of the driver
)

// Errorf returns an error that is the sentinel by errors.Is. Its text is the formatted text: one line, without request
// ids and times, so that the kubelet can aggregate its events. A %w verb keeps its operand reachable as well.
func Errorf(sentinel error, format string, args ...any) error {
	return &failure{sentinel: sentinel, cause: fmt.Errorf(format, args...)}
}

type failure struct{ sentinel, cause error }

func (f *failure) Error() string   { return f.cause.Error() }
func (f *failure) Unwrap() []error { return []error{f.sentinel, f.cause} }
