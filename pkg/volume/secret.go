package volume

import (
	"bytes"
	"fmt"
	"log/slog"
)

const redacted = "[redacted]"

// Secret holds bytes that must not be printed: a value from a vault, a client secret, a token.
//
// Printers and encoders of Go and of common libraries print "[redacted]". The bytes are behind a function because fmt
// cannot call methods on unexported fields of a struct that holds a Secret. It prints the address of a function, while
// it follows a pointer for a verb that does not fit one (%s is enough), as go-cmp always does.
//
// Compare Secrets with Equal. == does not compile, and for reflect.DeepEqual no two are equal.
type Secret struct {
	reveal func() []byte
}

// NewSecret wraps b, which the caller must not change afterwards.
func NewSecret(b []byte) Secret { return Secret{reveal: func() []byte { return b }} }

// Reveal returns the bytes, for code that sends or writes them. The caller must not change them.
func (s Secret) Reveal() []byte {
	if s.reveal == nil {
		return nil
	}
	return s.reveal()
}

// IsEmpty reports whether there are no bytes.
func (s Secret) IsEmpty() bool { return len(s.Reveal()) == 0 }

// Equal reports whether both hold the same bytes; go-cmp uses it too.
func (s Secret) Equal(other Secret) bool { return bytes.Equal(s.Reveal(), other.Reveal()) }

// Format implements fmt.Formatter for all verbs and flags.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// String implements fmt.Stringer for printers that do not use fmt.
func (s Secret) String() string { return redacted }

// MarshalText implements encoding.TextMarshaler; encoding/json and YAML encoders use it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalLog implements logr.Marshaler without importing it; klog uses it for structured values.
func (s Secret) MarshalLog() any { return redacted }
