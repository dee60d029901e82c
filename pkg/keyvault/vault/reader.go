package vault

import (
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

// maxReaders bounds the readers that are kept, of some 4 KB each.
const maxReaders = 256

// Reader reads from one vault with one credential. It is safe for concurrent use. Its SDK clients keep the credential's token,
// so it is never shared by two credentials.
type Reader struct {
	*Vaults
	vault        string
	secrets      func() (*azsecrets.Client, error)
	certificates func() (*azcertificates.Client, error)
	keys         func() (*azkeys.Client, error)
}

// readerOf is the credential, which must be a pointer, and the vault of a reader.
type readerOf struct {
	credential azcore.TokenCredential
	vault      string
}

// Reader returns the reader of a vault with a credential. It is kept until [Vaults.Tidy]: the SDK needs a quarter of the CPU time
// of a read to make a client. It sends no request.
func (v *Vaults) Reader(vault string, credential azcore.TokenCredential) *Reader {
	v.mu.Lock()
	defer v.mu.Unlock()
	of := readerOf{credential, vault}
	r, ok := v.readers[of]
	if !ok {
		if len(v.readers) >= maxReaders {
			clear(v.readers)
		}
		r = v.newReader(vault, credential)
		v.readers[of] = r
	}
	return r
}

func (v *Vaults) newReader(vault string, credential azcore.TokenCredential) *Reader {
	options := v.clientOptions(vault)
	return &Reader{
		Vaults: v, vault: vault,
		secrets: sync.OnceValues(func() (*azsecrets.Client, error) {
			return azsecrets.NewClient(vault, credential, &azsecrets.ClientOptions{ClientOptions: options})
		}),
		certificates: sync.OnceValues(func() (*azcertificates.Client, error) {
			return azcertificates.NewClient(vault, credential, &azcertificates.ClientOptions{ClientOptions: options})
		}),
		keys: sync.OnceValues(func() (*azkeys.Client, error) {
			return azkeys.NewClient(vault, credential, &azkeys.ClientOptions{ClientOptions: options})
		}),
	}
}
