package certificate

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/forge"
	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// soon is processor time that is enough on any slow machine, and far below the hours that these files would take without limits.
const soon = 2 * time.Minute

// A PKCS#12 file with too many iterations is refused before any is made, wherever the file has them.
func TestIterations(t *testing.T) {
	t.Parallel()
	const extreme = 1 << 31
	for name, test := range map[string]struct {
		file forge.PFX
		want error
	}{
		"of the MAC":                 {forge.PFX{MAC: extreme, Outer: 1, Inner: 1}, errSlow},
		"of the MAC, beyond int64":   {forge.PFX{MAC: 1<<63 - 1, Outer: 1, Inner: 1}, errSlow},
		"of the key, in a part":      {forge.PFX{Outer: 2048, Inner: extreme}, errSlow},
		"of the key, in RC2-40":      {forge.PFX{Outer: 2048, Inner: extreme, RC2: 40}, errSlow},
		"of the key, in RC2-128":     {forge.PFX{Outer: 2048, Inner: extreme, RC2: 128}, errSlow},
		"as many as usual, in RC2":   {forge.PFX{MAC: 2048, Outer: 2048, Inner: 2048, RC2: 40}, errBrokenPFX},
		"of the key, odd":            {forge.PFX{Outer: 2048, Inner: extreme, Odd: true}, errBrokenPFX},
		"of the key, odd, in RC2":    {forge.PFX{Outer: 2048, Inner: extreme, RC2: 40, Odd: true}, errBrokenPFX},
		"of the MAC, by PBKDF2":      {forge.PFX{PBMAC1: extreme, Outer: 1, Inner: 1}, errSlow},
		"each fine, too many in sum": {forge.PFX{Outer: 50_000, Inner: 50_001}, errSlow},
		"just as many as may be":     {forge.PFX{Outer: 50_000, Inner: 50_000}, errBrokenPFX},
		"as many as Java's":          {forge.PFX{MAC: 10_000, Outer: 10_000, Inner: 10_000}, errBrokenPFX},
		"below nothing":              {forge.PFX{MAC: -extreme, Outer: 1, Inner: extreme}, errBrokenPFX},
		"as many as usual":           {forge.PFX{MAC: 2048, Outer: 2048, Inner: 2048}, errBrokenPFX},
		"half a megabyte":            {forge.PFX{Outer: 1, Inner: 1, Bulk: 512 << 10}, errBrokenPFX},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var err error
			took := suite.CPUTime(func() { _, err = splitPFX(test.file.DER()) })
			if !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
			if took > soon {
				t.Errorf("took %v", took)
			}
		})
	}
}

// The iterations of the MAC count too. PBMAC1 repeats them for each hash length of its key, four times here. Its
// password must be right, because nothing is read after a wrong MAC.
func TestIterationsOfTheMACCount(t *testing.T) {
	t.Parallel()
	const password = "the password"
	for inner, want := range map[int64]error{20_000: errSlowCertificate, 19_999: errWrongPassword} {
		file := forge.PFX{PBMAC1: 20_000, Outer: 1, Inner: inner, Password: password}
		if _, _, err := ParseClient(file.DER(), []byte(password)); !errors.Is(err, want) {
			t.Errorf("%d iterations of the key: %v, want %v", inner, err, want)
		}
	}
	d := newDeriver(nil)
	if err := d.spend(-1 << 31); err != nil || d.left != maxIterations {
		t.Errorf("a negative number leaves %d iterations (%v)", d.left, err)
	}
}

// A malformed PKCS#12 file is refused, and none of the iterations inside it are made.
func TestIterationsInUnreadParts(t *testing.T) {
	t.Parallel()
	file := forge.PFX{Outer: 2048, Inner: 1 << 31}.DER()
	for name, test := range map[string]struct{ right, wrong string }{
		"a salt that is no OCTET STRING":     {"\x04\x08saltsalt", "\x84\x08saltsalt"},
		"a vector that is no OCTET STRING":   {"\x04\x10\x00", "\x0c\x10\x00"},
		"a content that is no OCTET STRING":  {"\x04\x82", "\x0c\x82"},
		"an encryption that is not known":    {"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0d", "\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0e"},
		"a part of a kind that is not known": {"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x06", "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x05"},
		"a ciphertext that cannot be undone": {"\x04\x08saltsalt", "\x04\x08saltSALT"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changed := bytes.Replace(file, []byte(test.right), []byte(test.wrong), 1)
			if bytes.Equal(changed, file) {
				t.Fatal("nothing to change")
			}
			var err error
			took := suite.CPUTime(func() { _, err = splitPFX(changed) })
			if !errors.Is(err, errBrokenPFX) {
				t.Errorf("%v, want %v", err, errBrokenPFX)
			}
			if took > soon {
				t.Errorf("took %v", took)
			}
		})
	}
}

// No chain takes long to order, and none loses a certificate.
func TestHostileChains(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		content []byte
		certs   int
		want    error
	}{
		"two names, as many as may be": {forge.Entangled(maxCerts), maxCerts, nil},
		"two names, thousands":         {forge.Entangled(2000), 0, errManyCerts},
		"a loop":                       {forge.Loop(), 3, nil},
		"10,000 host names":            {forge.ManyNames(10_000), 1, nil},
		"an issuer of 800,000 bits":    {forge.HugeIssuer(800_000), 2, nil},
		"a key of 16,384 bits":         {forge.HugeKey(16 << 10), 1, nil},
		"a key of 65,536 bits":         {forge.HugeKey(64 << 10), 0, errBigKey},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b *Bundle
			var err error
			took := suite.CPUTime(func() { b, err = splitPEM(test.content) })
			if !errors.Is(err, test.want) {
				t.Fatalf("%v, want %v", err, test.want)
			}
			if err == nil {
				for _, part := range []volume.Part{volume.PartChain, volume.PartPEM, volume.PartCA, volume.PartCert, volume.PartKey} {
					var err error
					took += suite.CPUTime(func() { _, err = b.Part(part, volume.ChainOrderChain, volume.PKCS8) })
					if err != nil {
						t.Error(err)
					}
				}
				chain, err := b.Part(volume.PartChain, "", "")
				if got := bytes.Count(chain, []byte("BEGIN CERTIFICATE")); err != nil || got != test.certs {
					t.Errorf("%d certificates, want %d (%v)", got, test.certs, err)
				}
			}
			if took > soon {
				t.Errorf("took %v", took)
			}
		})
	}
}
