package devcloud

import (
	"crypto/rand"
	"crypto/rsa"
	"sync"
)

// signingKeys are RSA keys that all clouds of this process share: making one takes as much CPU time as a hundred requests,
// and a test binary starts dozens of clouds. A token of one cloud is not valid in another, because key ids are not shared.
var signingKeys struct {
	sync.Mutex
	made []func() (*rsa.PrivateKey, error)
}

// signingKey returns key number n, which is made at its first use. A cloud signs access tokens with number 0; each of its
// issuers has a number of its own.
func signingKey(n int) func() (*rsa.PrivateKey, error) {
	signingKeys.Lock()
	defer signingKeys.Unlock()
	for len(signingKeys.made) <= n {
		signingKeys.made = append(signingKeys.made, sync.OnceValues(func() (*rsa.PrivateKey, error) {
			return rsa.GenerateKey(rand.Reader, 2048)
		}))
	}
	return signingKeys.made[n]
}
