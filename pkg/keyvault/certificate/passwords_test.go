package certificate

import (
	"crypto/cipher"
	"crypto/sha1"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/internal/rc2"
)

// twofold makes a part of a PKCS#12 file that both forms of an empty password decrypt: two zero bytes to random
// bytes, no bytes to hidden. first is the salt at which the search begins, so that it is short.
func twofold(t *testing.T, hidden func(filler []byte) []byte, first uint64) (pkix.AlgorithmIdentifier, []byte) {
	t.Helper()
	const keyLength = 5
	ciphers := func(salt, password []byte) (cipher.Block, []byte) {
		block, err := rc2.New((&deriver{bmp: password}).pkcs12KDF(sha1.New, forKey, salt, 1, keyLength))
		if err != nil {
			t.Fatal(err)
		}
		return block, (&deriver{bmp: password}).pkcs12KDF(sha1.New, forIV, salt, 1, rc2.BlockSize)
	}
	salt, filler := make([]byte, 8), make([]byte, 4)
	encrypt := func() []byte {
		block, iv := ciphers(salt, nil)
		data := append(hidden(filler), 4, 4, 4, 4)
		cipher.NewCBCEncrypter(block, iv).CryptBlocks(data, data)
		return data
	}
	opened := func(data []byte) []byte {
		block, iv := ciphers(salt, []byte{0, 0})
		plain := make([]byte, len(data))
		cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, data)
		return plain
	}
	var data []byte
	for try := first; ; try++ { // until it begins as DER of the right length does
		binary.BigEndian.PutUint64(salt, try)
		data = encrypt()
		if plain := opened(data[:rc2.BlockSize]); plain[0]&0x1f != 0x1f && plain[1] == 0x81 && int(plain[2]) == len(data)-4 {
			break
		}
	}
	for try := uint32(0); opened(data)[len(data)-1] != 1; try++ { // until it ends as padding does
		binary.BigEndian.PutUint32(filler, try)
		data = encrypt()
	}
	parameters, err := asn1.Marshal(struct {
		Salt       []byte
		Iterations int
	}{salt, 1})
	if err != nil {
		t.Fatal(err)
	}
	return pkix.AlgorithmIdentifier{
		Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 1, 6}, Parameters: asn1.RawValue{FullBytes: parameters},
	}, data
}

// Iterations count too in a part that only the other form of the empty password decrypts correctly.
func TestIterationsBehindTheOtherPassword(t *testing.T) {
	t.Parallel()
	marshal := func(value any) asn1.RawValue {
		der, err := asn1.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: der}
	}
	type bag struct {
		ID    asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	type parameters struct {
		Salt       []byte
		Iterations int64
	}
	key := encrypted{
		pkix.AlgorithmIdentifier{
			Algorithm:  asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 1, 3},
			Parameters: asn1.RawValue{FullBytes: marshal(parameters{make([]byte, 8), 1 << 31}).Bytes},
		}, make([]byte, 64),
	}
	algorithm, data := twofold(t, func(filler []byte) []byte {
		return marshal([]bag{{oidShroudedKeyBag, marshal(key)}, {oidData, marshal(append(make([]byte, 22), filler...))}}).Bytes
	}, 107_869)
	for _, form := range [][]byte{{0, 0}, nil} {
		if _, err := (&deriver{bmp: form, left: 1}).decrypt(encrypted{algorithm, data}); err != nil {
			t.Fatalf("with %v: %v", form, err)
		}
	}
	type info struct {
		ID        asn1.ObjectIdentifier
		Algorithm pkix.AlgorithmIdentifier
		Data      asn1.RawValue
	}
	type content struct {
		ID      asn1.ObjectIdentifier
		Content asn1.RawValue
	}
	hidden := info{oidData, algorithm, asn1.RawValue{Class: asn1.ClassContextSpecific, Bytes: data}}
	parts := marshal([]content{{oidEncryptedData, marshal(struct {
		Version int
		Info    info
	}{0, hidden})}})
	file := marshal(struct {
		Version int
		Safe    content
	}{3, content{oidData, marshal(parts.Bytes)}})
	if _, err := splitPFX(file.Bytes); !errors.Is(err, errSlow) {
		t.Errorf("%v, want %v", err, errSlow)
	}
}
