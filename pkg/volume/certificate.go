package volume

// source is the interface of the vault from which a certificate is read.
type source string

const (
	fromSecret      source = "secret"      // the certificate's backing secret, with CAs and key
	fromCertificate source = "certificate" // the certificates interface
)

// certificate reads the fields of a certificate, except those that every object has and its password.
func (m *mapping) certificate(o *Object, order ChainOrder) {
	if choice(m, "source", fromSecret, fromCertificate) == fromCertificate {
		m.publicCertificate(o)
		return
	}
	o.ChainOrder = order
	o.KeyFormat = choice(m, "keyFormat", PKCS8, PKCS1, SEC1)
	o.RequireChain = m.boolean("requireChain")
	o.Outputs = m.certificateFiles(Output{Part: PartChain, Path: o.Name + ".crt"}, Output{Part: PartKey, Path: o.Name + ".key"})
}

// publicCertificate reads a certificate that comes from the certificates interface, which has the leaf alone. A chain is
// accepted, because programs that want one file for both accept a leaf. A file for the CAs would always be empty.
func (m *mapping) publicCertificate(o *Object) {
	o.Kind = KindPublicCertificate
	for _, name := range m.names {
		switch name {
		case "key", "pem", "pfx", "pfxPassword", "pfxProfile", "keyFormat":
			m.problem(name, "does not go with source: certificate, which has no private key")
		case "ca", "requireChain":
			m.problem(name, "does not go with source: certificate, which has the leaf alone and no CAs")
		}
	}
	o.Outputs = m.certificateFiles(Output{Part: PartCert, Path: o.Name + ".crt"})
}

// certificateFiles returns the files that have a path, in the order of the parts. If none has, it returns the others.
func (m *mapping) certificateFiles(others ...Output) (outputs []Output) {
	for _, part := range []Part{PartChain, PartKey, PartCert, PartCA, PartPEM, PartPFX} {
		if field := string(part); m.fields[field] != nil { // the fields are named for the parts
			outputs = append(outputs, Output{Part: part, Path: m.path(field, "")})
		}
	}
	if outputs == nil {
		return others
	}
	return outputs
}

// pfxPassword reads the fields pfxPassword and pfxProfile. The password is in the vault of the certificate, if it names
// no other.
func (m *mapping) pfxPassword(o *Object) {
	node := m.fields["pfxPassword"]
	switch {
	case o.Kind == KindPublicCertificate: // reported
		return
	case node == nil:
		if m.fields["pfxProfile"] != nil {
			m.problem("pfxProfile", "does nothing without pfxPassword, the vault's own PKCS#12 file is written as it is")
		}
		return
	case m.fields["pfx"] == nil:
		m.problem("pfxPassword", "does nothing without pfx, which names the file")
		return
	case isString(node):
		m.problem("pfxPassword", "must be {secret: NAME}, the secret that holds the password, and not the password itself")
		return
	}
	o.PFXProfile = choice(m, "pfxProfile", PFXModern, PFXLegacy)
	f := m.parser.yamlMapping(m.source+".pfxPassword", node, maxFields)
	if f == nil {
		return
	}
	f.unknown([]string{"secret", "version", "vault"})
	if f.fields["secret"] == nil {
		f.problem("", "says no secret, write {secret: NAME}")
		return
	}
	password := &Object{Kind: KindSecret, Source: f.source, Vault: o.Vault, Encoding: UTF8}
	f.name(password, "secret")
	password.Optional = o.Optional
	if f.fields["vault"] != nil {
		password.Vault = vault(f, "vault", m.parser.defaults.VaultSuffix)
	}
	o.Password = password
}
