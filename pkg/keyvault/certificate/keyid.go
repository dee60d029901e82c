package certificate

import (
	"bytes"
	"slices"
)

// fileOrder returns the indices of the certificates in the order of the file. leaf is the position from which the leaf was
// moved to the front.
func fileOrder(certs []certificate, leaf int) (order []int) {
	for i := 1; i < len(certs); i++ {
		order = append(order, i)
	}
	return slices.Insert(order, leaf, 0)
}

// byKeyID orders certificates as the Azure provider of the Secrets Store CSI Driver does: from the first that is the
// authority of no other one, each is followed by its authority, which is found by key identifiers alone (RFC 5280, sections
// 4.2.1.1 and 4.2.1.2). If these do not link all certificates, the provider keeps the order of the file.
//
// The provider fails if a certificate cannot be parsed, if there is no beginning, or if there is a cycle. Then ok is
// false.
func byKeyID(certs []certificate, file []int) (order []int, ok bool) {
	authority, isAuthority := make([]int, len(certs)), make([]bool, len(certs))
	for _, i := range file {
		if certs[i].parsed == nil {
			return nil, false
		}
		authority[i] = -1
		for _, j := range file {
			if i != j && certs[j].parsed != nil && identifies(certs[i], certs[j]) {
				authority[i], isAuthority[j] = j, true
				break
			}
		}
	}
	begin := slices.IndexFunc(file, func(i int) bool { return !isAuthority[i] })
	if begin < 0 {
		return nil, false
	}
	for i := file[begin]; i >= 0; i = authority[i] {
		if len(order) == len(certs) {
			return nil, false
		}
		order = append(order, i)
	}
	if len(order) < len(certs) {
		return file, true
	}
	return order, true
}

// identifies reports whether a certificate names the other one as its authority.
func identifies(c, authority certificate) bool {
	named, own := c.parsed.AuthorityKeyId, authority.parsed.SubjectKeyId
	return (named != nil || own != nil) && bytes.Equal(named, own)
}
