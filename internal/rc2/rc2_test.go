package rc2

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// All the test vectors of RFC 2268 section 5.
func TestVectors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		key       string
		effective int
		plain     string
		encrypted string
	}{
		{"0000000000000000", 63, "0000000000000000", "ebb773f993278eff"},
		{"ffffffffffffffff", 64, "ffffffffffffffff", "278b27e42e2f0d49"},
		{"3000000000000000", 64, "1000000000000001", "30649edf9be7d2c2"},
		{"88", 64, "0000000000000000", "61a8a244adacccf0"},
		{"88bca90e90875a", 64, "0000000000000000", "6ccf4308974c267f"},
		{"88bca90e90875a7f0f79c384627bafb2", 64, "0000000000000000", "1a807d272bbe5db1"},
		{"88bca90e90875a7f0f79c384627bafb2", 128, "0000000000000000", "2269552ab0f85ca6"},
		{"88bca90e90875a7f0f79c384627bafb216f80a6f85920584c42fceb0be255daf1e", 129, "0000000000000000", "5b78d3a43dfff1f1"},
	} {
		cipher := expand(unhex(t, test.key), test.effective)
		plain, encrypted := unhex(t, test.plain), unhex(t, test.encrypted)
		got := make([]byte, cipher.BlockSize())
		if cipher.Encrypt(got, plain); !bytes.Equal(got, encrypted) {
			t.Errorf("key %s, %d bits: %s encrypted is %x, want %s", test.key, test.effective, test.plain, got, test.encrypted)
		}
		if cipher.Decrypt(got, encrypted); !bytes.Equal(got, plain) {
			t.Errorf("key %s, %d bits: %s decrypted is %x, want %s", test.key, test.effective, test.encrypted, got, test.plain)
		}
	}
}

func unhex(t *testing.T, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A key of an invalid length is refused, and does not cause a panic.
func TestNoKey(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 129} {
		if _, err := New(make([]byte, size)); err == nil {
			t.Errorf("a key of %d bytes", size)
		}
	}
}
