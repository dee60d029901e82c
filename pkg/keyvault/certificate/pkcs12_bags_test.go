package certificate

import (
	"encoding/asn1"
	"errors"
	"os"
	"testing"
)

// bagsOf returns the bags of the certificate and the key of an unencrypted file.
func bagsOf(t *testing.T, path string) (cert, key []byte) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file pfxFile
	var parts []contentInfo
	if unmarshal(content, &file) != nil || unmarshal(octets(file.Safe.Content.Bytes), &parts) != nil {
		t.Fatal("no PKCS#12")
	}
	for _, part := range parts {
		bags, err := newDeriver(nil).open(part)
		if err != nil {
			t.Fatal(err)
		}
		for _, bag := range bags {
			switch der := marshalled(t, bag); {
			case bag.ID.Equal(oidKeyBag):
				key = der
			case cert == nil:
				cert = der
			}
		}
	}
	return cert, key
}

func marshalled(t *testing.T, value any) []byte {
	t.Helper()
	der, err := asn1.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// fileOf makes a file without a MAC from unencrypted parts.
func fileOf(t *testing.T, parts ...[][]byte) []byte {
	t.Helper()
	type content struct {
		ID      asn1.ObjectIdentifier
		Content asn1.RawValue
	}
	data := func(der []byte) content {
		return content{oidData, asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: marshalled(t, der)}}
	}
	var safe []content
	for _, bags := range parts {
		var held []asn1.RawValue
		for _, bag := range bags {
			held = append(held, asn1.RawValue{FullBytes: bag})
		}
		safe = append(safe, data(marshalled(t, held)))
	}
	return marshalled(t, struct {
		Version int
		Safe    content
	}{3, data(marshalled(t, safe))})
}

func TestBagsOfAFile(t *testing.T) {
	t.Parallel()
	cert, key := bagsOf(t, "testdata/pfx/plain.pfx")
	_, foreignKey := bagsOf(t, "testdata/pfx/secp256k1-plain.pfx")
	strange := func(id asn1.ObjectIdentifier, value []byte) []byte {
		return marshalled(t, struct {
			ID    asn1.ObjectIdentifier
			Value asn1.RawValue
		}{id, asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: value}})
	}
	noCert := strange(oidCertBag, marshalled(t, struct {
		ID   asn1.ObjectIdentifier
		Data []byte `asn1:"tag:0,explicit"`
	}{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 22, 1}, []byte("no DER")}))
	noKey := strange(oidKeyBag, marshalled(t, []int{1}))
	for name, test := range map[string]struct {
		parts  [][][]byte
		want   error // of a certificate
		opaque bool
		client error // of a client certificate; nil: it is valid as one
	}{
		"both":                                   {[][][]byte{{cert, key}}, nil, false, nil},
		"both, in three parts":                   {[][][]byte{{cert}, {}, {key}}, nil, false, nil},
		"no key":                                 {[][][]byte{{cert}}, nil, false, errCertificateNoKey},
		"no key, and a certificate that is none": {[][][]byte{{cert, noCert}}, ErrNoKey, false, errCertificateNoKey},
		"no certificate":                         {[][][]byte{{key}}, errNoCert, false, Unusable(errNoCert.Error())},
		"nothing":                                {[][][]byte{{}}, ErrNoKey, false, errCertificateNoKey},
		"two keys":                               {[][][]byte{{cert, key, key}}, errManyKeys, false, errNotACertificate},
		"two keys in two parts":                  {[][][]byte{{cert, key}, {key}}, errManyKeys, false, errNotACertificate},
		"another's key":                          {[][][]byte{{cert, foreignKey}}, errNoLeaf, false, errNotRSA},
		"a certificate that is none":             {[][][]byte{{noCert, key}}, nil, true, errNotACertificate},
		"a key that is none":                     {[][][]byte{{cert, noKey}}, nil, true, errNotACertificate},
		"the same, in three parts":               {[][][]byte{{noCert}, {}, {key}}, nil, true, errNotACertificate},
		"bags that are none":                     {[][][]byte{{marshalled(t, 1)}}, errBrokenPFX, false, errNotACertificate},
		"a certificate bag of nothing":           {[][][]byte{{strange(oidCertBag, marshalled(t, 1)), key}}, errBrokenPFX, false, errNotACertificate},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			content := fileOf(t, test.parts...)
			b, err := splitPFX(content)
			if !errors.Is(err, test.want) || test.want == nil && err != nil {
				t.Errorf("%v, want %v", err, test.want)
			}
			if err == nil && (len(b.certs) == 0) != test.opaque {
				t.Errorf("%d certificates", len(b.certs))
			}
			if _, _, err := ParseClient(content, nil); !errors.Is(err, test.client) || test.client == nil && err != nil {
				t.Errorf("as a client certificate: %v, want %v", err, test.client)
			}
		})
	}
}
