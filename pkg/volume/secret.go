package volume

import (
	"fmt"
	"log/slog"
)

const redacted = "[redacted]"

// Secret holds bytes that must not be printed: a value from a vault, a client secret, a token.
//
// Every way in which Go's usual printers and encoders look at a value gives "[redacted]". The bytes stand behind a
// pointer because fmt cannot call methods on unexported fields of a struct that holds a Secret: it then prints an
// address, not the bytes.
type Secret struct {
	bytes *[]byte
}

// NewSecret wraps b, which the caller must not change afterwards.
func NewSecret(b []byte) Secret { return Secret{bytes: &b} }

// Reveal gives the bytes, for the one place that must send or write them. The caller must not change them.
func (s Secret) Reveal() []byte {
	if s.bytes == nil {
		return nil
	}
	return *s.bytes
}

// IsEmpty says whether there are no bytes.
func (s Secret) IsEmpty() bool { return len(s.Reveal()) == 0 }

// Format implements fmt.Formatter, so that no verb or flag reaches the bytes.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// String implements fmt.Stringer for printers that ask for it without fmt.
func (s Secret) String() string { return redacted }

// MarshalText implements encoding.TextMarshaler; encoding/json and YAML encoders use it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalLog implements logr.Marshaler without importing it; klog uses it for structured values.
func (s Secret) MarshalLog() any { return redacted }
