package certificate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"maps"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// issue returns certificates by name. A name is issued by the one behind it, the last by itself. The last one names the
// authority, if there is one.
func issue(t *testing.T, names, authority string) map[rune]certificate {
	t.Helper()
	certs := map[rune]certificate{}
	var parent *x509.Certificate
	var parentKey *ecdsa.PrivateKey
	for i, name := range slices.Backward([]rune(names)) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		cert := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i) + 1), Subject: pkix.Name{CommonName: string(name)},
			NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0), IsCA: i > 0, BasicConstraintsValid: true, SubjectKeyId: []byte(string(name)),
		}
		if parent == nil {
			parent, parentKey = cert, key
			cert.AuthorityKeyId = []byte(authority)
		}
		der, err := x509.CreateCertificate(rand.Reader, cert, parent, key.Public(), parentKey)
		if err != nil {
			t.Fatal(err)
		}
		certs[name] = newCertificate(der)
		parent, parentKey = certs[name].parsed, key
	}
	return certs
}

func TestKeyIDOrder(t *testing.T) {
	t.Parallel()
	certs := issue(t, "LIR", "")
	maps.Copy(certs, issue(t, "XY", ""))
	for name, test := range map[string]struct{ file, keyID string }{
		"a leaf":                      {"L", "L"},
		"in order":                    {"LIR", "LIR"},
		"from the root":               {"RIL", "LIR"},
		"leaf in the middle":          {"ILR", "LIR"},
		"without a root":              {"IL", "LI"},
		"a gap keeps the file":        {"RL", "RL"},
		"a stranger keeps the file":   {"XRIL", "XRIL"},
		"a second leaf keeps it":      {"LXY", "LXY"},
		"the CA that is there twice":  {"LIIR", "LIIR"},
		"the leaf that is there last": {"IRL", "LIR"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkOrder(t, certs, test.file, volume.ChainOrderKeyID, test.keyID)
			checkOrder(t, certs, test.file, volume.ChainOrderFile, test.file)
		})
	}
}

// Where the provider fails, the chain is built by names and signatures.
func TestKeyIDOrderWhereTheProviderFails(t *testing.T) {
	t.Parallel()
	certs := issue(t, "LIR", "")
	maps.Copy(certs, issue(t, "MC", "C")) // a root that names itself as its authority is not a loop
	checkOrder(t, certs, "CM", volume.ChainOrderKeyID, "MC")

	circle := issue(t, "LIR", "I")
	checkOrder(t, circle, "RIL", volume.ChainOrderKeyID, "LIR")
	checkOrder(t, circle, "RI", volume.ChainOrderKeyID, "IR")

	unparsed := certs['R']
	unparsed.parsed = nil
	certs['R'] = unparsed
	checkOrder(t, certs, "RIL", volume.ChainOrderKeyID, "LIR")
}

// checkOrder puts certificates into a file without a key, and compares their order by name.
func checkOrder(t *testing.T, certs map[rune]certificate, file string, order volume.ChainOrder, want string) {
	t.Helper()
	found, names := &contents{}, map[string]rune{}
	for _, name := range file {
		found.certs = append(found.certs, certs[name])
		names[string(certs[name].der)] = name
	}
	b, err := found.bundle(nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []rune
	for _, der := range b.ordered(order) {
		got = append(got, names[string(der)])
	}
	if string(got) != want {
		t.Errorf("%s of %s: %s, want %s", order, file, string(got), want)
	}
}
