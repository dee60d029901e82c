package vault

import (
	"context"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

// maxReaders bounds the readers that are kept, of some 4 KB each.
const maxReaders = 256

// Reader reads from one vault with one token. It is safe for concurrent use.
type Reader struct {
	*Vaults
	vault        string
	secrets      func() (*azsecrets.Client, error)
	certificates func() (*azcertificates.Client, error)
	keys         func() (*azkeys.Client, error)
}

// readerOf is what a reader is for. The credential must be a pointer.
type readerOf struct {
	credential   azcore.TokenCredential
	vault, token string
}

// Reader returns the reader of a vault with a token of a credential. The credential itself, which keeps its principal, is asked for a token
// with the claims that the vault requires, and for the next one when the token is about to end. A reader is kept until [Vaults.Tidy]: the
// SDK needs a quarter of the CPU time of a read to make a client. It sends no request.
func (v *Vaults) Reader(vault string, credential azcore.TokenCredential, token azcore.AccessToken) *Reader {
	v.mu.Lock()
	defer v.mu.Unlock()
	of := readerOf{credential, vault, token.Token}
	r, ok := v.readers[of]
	if !ok {
		if len(v.readers) >= maxReaders {
			clear(v.readers)
		}
		r = v.newReader(vault, tokenCredential{credential, token, v.options.Now})
		v.readers[of] = r
	}
	return r
}

// lastUse is the remaining life of a token from which the credential is asked for the next one, for a list or a wait that takes longer.
const lastUse = 30 * time.Second

// tokenCredential binds the SDK's clients to a token, so that they send no other than the caller has checked, as long as it lives.
type tokenCredential struct {
	azcore.TokenCredential
	token azcore.AccessToken
	now   func() time.Time
}

// GetToken implements azcore.TokenCredential.
func (c tokenCredential) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if o.Claims != "" || c.token.ExpiresOn.Sub(c.now()) <= lastUse {
		return c.TokenCredential.GetToken(ctx, o)
	}
	return c.token, nil
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
