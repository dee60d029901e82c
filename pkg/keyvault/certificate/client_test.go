package certificate

import (
	"bytes"
	"os"
	"testing"
)

// Only the chain of a client certificate is kept, not all certificates of its file.
func TestTheChainIsKept(t *testing.T) {
	t.Parallel()
	read := func(name string) []byte {
		content, err := os.ReadFile("testdata/login/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	want, _, err := ParseClient(read("plain.pem"), nil)
	if err != nil {
		t.Fatal(err)
	}
	chain, _, err := ParseClient(append(bytes.Repeat(append(read("root.pem"), '\n'), 100), read("plain.pem")...), nil)
	if err != nil || len(chain) != maxSent {
		t.Fatalf("%d certificates, want %d: %v", len(chain), maxSent, err)
	}
	for i, cert := range want {
		if !cert.Equal(chain[i]) {
			t.Errorf("certificate %d of the chain is a different one", i)
		}
	}
}
