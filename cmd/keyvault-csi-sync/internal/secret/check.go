package secret

import (
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"slices"

	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/config"
)

// check checks the values for the type of the Secret, as far as a reader would. The errors of the parsers are left out: they can quote
// what they read.
func (w Wanted) check() error {
	switch w.Type {
	case config.TLS:
		return checkTLS(w.Values["tls.crt"], w.Values["tls.key"])
	case config.DockerConfigJSON:
		var login struct {
			Auths map[string]json.RawMessage `json:"auths"`
		}
		if json.Unmarshal(w.Values[".dockerconfigjson"], &login) != nil || len(login.Auths) == 0 {
			return errors.New(`key .dockerconfigjson: the file is not a login for a registry; it must be {"auths": {REGISTRY: {…}}} in JSON`)
		}
	case config.SSHAuth:
		if len(w.Values["ssh-privatekey"]) == 0 {
			return errors.New("key ssh-privatekey: the file is empty")
		}
	}
	return nil
}

func checkTLS(certificate, key []byte) error {
	if block, _ := pem.Decode(certificate); block == nil {
		return errors.New("key tls.crt: the file has no PEM; take the file of the object's chain")
	}
	if block, _ := pem.Decode(key); block == nil {
		return errors.New("key tls.key: the file has no PEM; take the file of the object's key")
	}
	if _, err := tls.X509KeyPair(certificate, key); err != nil {
		return errors.New("keys tls.crt and tls.key: the files are not a certificate and its private key; take the chain and the key of one object")
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// with returns a copy of the map with more pairs.
func with(m map[string]string, pairs ...string) map[string]string {
	merged := make(map[string]string, len(m)+len(pairs)/2)
	maps.Copy(merged, m)
	for i := 0; i+1 < len(pairs); i += 2 {
		merged[pairs[i]] = pairs[i+1]
	}
	return merged
}
