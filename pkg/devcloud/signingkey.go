package devcloud

import (
	"crypto/rand"
	"crypto/rsa"
	"sync"
)

// signingKeys are RSA keys that all clouds of this process share: making one costs as much CPU as a hundred requests, and a test
// binary starts dozens of clouds. A token of one cloud is worth nothing in another all the same, because key ids are not shared.
var signingKeys struct {
	sync.Mutex
	made []func() (*rsa.PrivateKey, error)
}

// signingKey gives the key with the number n, which is made when it is first used. A cloud signs access tokens with number 0; each
// of its issuers has a number of its own.
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
