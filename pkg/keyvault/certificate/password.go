package certificate

import (
	"bytes"
	"errors"
	"fmt"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// maxPassword is the length of a password in bytes: openssl -passin file: reads no more.
const maxPassword = 1023

// Password returns the password of a PKCS#12 file that a secret holds. It drops one line end at the end, as openssl -passin
// file: and keytool -storepass:file do: a file that echo made, and that was stored with az keyvault secret set --file, has
// one. The rest is what every reader takes alike: PKCS#12 encodes passwords as BMPString (RFC 7292 appendix B.1), which has
// no characters outside of the Basic Multilingual Plane, and a control character is always a mistake.
//
// The error is the end of a sentence about the secret.
func Password(secret volume.Secret) (volume.Secret, error) {
	text, ended := bytes.CutSuffix(secret.Reveal(), []byte("\n"))
	if ended {
		text = bytes.TrimSuffix(text, []byte("\r"))
	}
	switch {
	case len(text) == 0:
		return volume.Secret{}, errors.New("is empty, which is no password; set one, or leave pfxPassword out for the vault's own PKCS#12 file")
	case len(text) > maxPassword:
		return volume.Secret{}, fmt.Errorf("is longer than the %d bytes that the password of a PKCS#12 file may have here; store the password alone", maxPassword)
	case !utf8.Valid(text):
		return volume.Secret{}, errors.New("is not UTF-8, so that it cannot be the password of a PKCS#12 file; store another")
	case bytes.ContainsFunc(text, unicode.IsControl):
		return volume.Secret{}, errors.New("holds a control character, such as a line end before its last, and cannot be the password of a PKCS#12 file; " +
			"store the password alone")
	case bytes.ContainsFunc(text, isSurrogate):
		return volume.Secret{}, errors.New("holds a character above U+FFFF, which the password of a PKCS#12 file cannot have; store another")
	}
	return volume.NewSecret(text), nil
}

// isSurrogate reports whether UTF-16 needs two units for a character.
func isSurrogate(r rune) bool { return utf16.RuneLen(r) == 2 }
