package files

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Certificate is one that was read for the files of a set.
type Certificate struct {
	Vault, Name string // of its object
	NotAfter    time.Time
	Gap         bool // in the chain of a file
}

// Certificates returns the certificates that were decoded for the files, each once, in the order of the objects.
func (s *Set) Certificates() (certificates []Certificate) {
	for _, from := range s.sources() {
		if !from.notAfter.IsZero() {
			certificates = append(certificates, Certificate{from.of.Vault, from.of.Name, from.notAfter, len(from.gaps) > 0})
		}
	}
	return certificates
}

// expiries returns when the certificates of the objects end, the soonest first.
func (s *Set) expiries() (expiries []volume.Expiry) {
	for i, object := range s.objects {
		o, there := s.made[&s.objects[i]]
		if !there || o.notAfter.IsZero() {
			continue
		}
		if file := certificateFile(object, o.files); file != "" {
			// The path is a part of the text of the pod, which must not stay in memory for it.
			expiries = append(expiries, volume.Expiry{File: strings.Clone(file), NotAfter: o.notAfter})
		}
	}
	slices.SortFunc(expiries, func(a, b volume.Expiry) int {
		return cmp.Or(a.NotAfter.Compare(b.NotAfter), strings.Compare(a.File, b.File))
	})
	return slices.Clone(expiries[:min(len(expiries), volume.MaxExpiries)])
}

// certificateFile returns the path of a file of the object that has its certificate, PKCS#12 only if there is no other.
func certificateFile(object volume.Object, files []volume.File) (path string) {
	for _, output := range slices.Concat(object.Split, object.Outputs) {
		written := slices.ContainsFunc(files, func(f volume.File) bool { return f.Path == output.Path })
		switch {
		case !written || !holdsCertificate(output):
		case output.Part != volume.PartPFX:
			return output.Path
		case path == "":
			path = output.Path
		}
	}
	return path
}

// holdsCertificate reports whether the file has the certificate, and not only its CAs or its key.
func holdsCertificate(o volume.Output) bool {
	switch o.Part {
	case volume.PartCert, volume.PartLeaf76, volume.PartCertBlocks:
		return true
	case volume.PartCA:
		return false
	}
	return o.HoldsChain()
}
