package certificate

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Damaged is a block of PEM that cannot be read. The error is the end of a sentence about the file. It has no content
// of the file, which may be a private key.
type Damaged struct {
	Block, Of int    // counted by the lines BEGIN, from 1
	kind      string // the label of the block if it is a known one
	why       string
}

// Error returns the end of the sentence.
func (d *Damaged) Error() string {
	if d.kind == "" {
		return fmt.Sprintf("has damaged PEM: block %d of %d %s", d.Block, d.Of, d.why)
	}
	return fmt.Sprintf("has damaged PEM: block %d of %d (%s) %s", d.Block, d.Of, d.kind, d.why)
}

const (
	lostLines = "is not readable: the line breaks are gone: replace spaces by line ends"
	letters   = "is not readable: the line breaks are gone: replace the letters \\n by line ends"
	notBase64 = "is not base64: it was cut, or has a wrong character"
	isWrong   = "characters or lines are missing or wrong"
)

// labels of the blocks that have keys and certificates. The second and the third are OpenSSL's.
var (
	certLabels = []string{"CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"}
	keyLabels  = []string{"PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"}
)

func knownLabel(label string) string {
	if slices.Contains(certLabels, label) || slices.Contains(keyLabels, label) {
		return label
	}
	return ""
}

// ParseCAs returns all certificates of a PEM file, and ignores everything else. The error is the end of a sentence
// about the file. x509.CertPool.AppendCertsFromPEM leaves out what it cannot read.
func ParseCAs(content []byte) (certs []*x509.Certificate, err error) {
	found, err := readBlocks(content)
	if err != nil {
		return nil, err
	}
	for i, block := range found {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, &Damaged{i + 1, len(found), block.Type, "is a certificate of a kind that is not read here, such as one with explicit EC parameters; remove it"}
		}
		certs = append(certs, cert)
	}
	if certs == nil {
		return nil, errors.New("has no certificate in PEM form")
	}
	return certs, nil
}

// readBlocks returns all blocks of a file. encoding/pem skips what it cannot read, so a chain would lose certificates.
// It reads what is unambiguous: a byte order mark, indentation, text between blocks, and files that were put together
// without a line end.
func readBlocks(content []byte) (found []*pem.Block, err error) {
	const begin, glued = "-----BEGIN ", "----------"
	text := strings.ReplaceAll(string(content), "\ufeff", "")
	parts := strings.Split(strings.ReplaceAll(text, glued, glued[:5]+"\n"+glued[5:]), begin)
	of := len(parts) - 1
	if of > 0 && hasBoundary(parts[0]) {
		return nil, &Damaged{1, of, "", "comes after a line BEGIN or END that is damaged"}
	}
	for i, part := range parts[1:] {
		block, damaged := readBlock(part)
		if damaged != nil {
			damaged.Block, damaged.Of = i+1, of
			return nil, damaged
		}
		found = append(found, block)
	}
	return found, nil
}

// hasBoundary reports whether text outside of all blocks has the rest of a damaged line BEGIN or END.
func hasBoundary(text string) bool {
	return slices.ContainsFunc([]string{"-BEGIN ", "-END ", "BEGIN CERTIFICATE", "END CERTIFICATE"}, func(s string) bool {
		return strings.Contains(text, s)
	})
}

// readBlock reads a block from behind "-----BEGIN " to the next one.
func readBlock(part string) (*pem.Block, *Damaged) {
	const hyphens = "-----"
	label, rest, ended := strings.Cut(part, hyphens)
	label = strings.TrimSpace(label)
	if !ended || strings.ContainsAny(label, "-\r\n") {
		return nil, &Damaged{why: "has a damaged line BEGIN"}
	}
	kind := knownLabel(label)
	body, after, ended := strings.Cut(rest, hyphens+"END "+label+hyphens)
	switch {
	case label == "PKCS7" || label == "CMS":
		return nil, &Damaged{why: "is PKCS#7, which is not read; convert it (openssl pkcs7 -print_certs)"}
	case !ended && kind == "":
		return nil, &Damaged{why: "has no line END of its own type"}
	case !ended:
		return nil, &Damaged{kind: kind, why: "has no line -----END " + kind + hyphens}
	case hasBoundary(after):
		return nil, &Damaged{kind: kind, why: "is followed by a line BEGIN or END that is damaged"}
	case kind != "" && strings.Contains(body, `\n`):
		return nil, &Damaged{kind: kind, why: letters}
	case !strings.HasPrefix(strings.TrimLeft(body, " \t"), "\n") && !strings.HasPrefix(strings.TrimLeft(body, " \t"), "\r"):
		return nil, &Damaged{kind: kind, why: lostLines}
	}
	block := &pem.Block{Type: label, Headers: map[string]string{}}
	lines := strings.FieldsFunc(body, func(r rune) bool { return r == '\r' || r == '\n' })
	for len(lines) > 0 && strings.Contains(lines[0], ":") { // RFC 1421
		name, value, _ := strings.Cut(lines[0], ":")
		block.Headers[strings.TrimSpace(name)] = strings.TrimSpace(value)
		lines = lines[1:]
	}
	var err error
	block.Bytes, err = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(strings.Join(lines, "\n")), ""))
	switch {
	case kind == "": // of a type that is skipped
		return block, nil
	case err != nil:
		return nil, &Damaged{kind: kind, why: notBase64}
	}
	if slices.Contains(certLabels, label) {
		return readCertBlock(block)
	}
	return block, nil
}

// readCertBlock checks that the block has a whole certificate. OpenSSL's TRUSTED CERTIFICATE has its own data behind it.
func readCertBlock(block *pem.Block) (*pem.Block, *Damaged) {
	var value asn1.RawValue
	rest, err := asn1.Unmarshal(block.Bytes, &value)
	if err == nil && (len(rest) == 0 || block.Type == "TRUSTED CERTIFICATE") && newCertificate(value.FullBytes).public != nil {
		return &pem.Block{Type: "CERTIFICATE", Bytes: value.FullBytes}, nil
	}
	return nil, &Damaged{kind: block.Type, why: "is not a whole certificate: " + isWrong}
}
