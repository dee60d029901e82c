package reads

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/cache"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/decode"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/login"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/vault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// unknownKeyPause is the time before the second attempt after [azure.Answer.UnknownKey].
const unknownKeyPause = time.Second

type waitFor = func(name string, s cache.Service)

// target is what a fetch reads.
type target struct {
	vault.Request
	object volume.Object
	pages  int // of a list for changes, at most
}

// ask reads an object from the vault. It asks the vault for its challenge if its tenant is unknown, then the login
// service for a token. It runs for all callers that want the same object as the same identity. It renews a refused
// token once: the token may have been revoked, or the vault's clock may be ahead. If the vault refuses the new token
// too, that is the result.
func (f *Fetch) ask(ctx context.Context, waitFor waitFor, t target, key cache.Key) cache.Result[*Value] {
	o := t.object
	at := f.now()
	waitFor(theVault, f.vaults.Throttle(o.Vault))
	vaultTenant, err := f.vaults.Challenge(ctx, t.Request)
	if err != nil {
		return cache.Result[*Value]{At: at, Failure: f.vaultFailure(o, err, "", "")}
	}
	tenant := cmp.Or(f.Identity.TenantID, vaultTenant)
	for retried := false; ; retried = true {
		var token azcore.AccessToken
		l, err := f.logins.Of(f.Request, tenant)
		held := err == nil && l.HoldsToken()
		if err == nil {
			if !l.Ready(ctx) {
				waitFor(loginService(f.Identity), l.Throttle())
			}
			token, err = f.logIn(ctx, l)
		}
		if err != nil {
			return f.loginRefused(at, f.loginFailure(l, err, tenant, vaultTenant), tenant)
		}
		waitFor(theVault, f.vaults.Throttle(o.Vault))
		read, asked, err := f.readFrom(ctx, l, token, t)
		if err == nil {
			return cache.Result[*Value]{Value: f.valueOf(key, read), At: asked, Tenant: tenant}
		}
		answer, answered := errors.AsType[*azure.Answer](err)
		switch {
		case answered && answer.IsLogin(): // the vault has revoked the token, so the SDK requested another
			return f.loginRefused(at, f.loginFailure(l, err, tenant, vaultTenant), tenant)
		case answered && answer.Status == http.StatusUnauthorized && !answer.Unavailable():
			l.Reject(token.Token)
			if now, ok := f.vaults.Tenant(o.Vault); ok {
				vaultTenant, tenant = now, cmp.Or(f.Identity.TenantID, now)
			}
			if held && !retried {
				continue
			}
			f.revoke(func(key cache.Key, _ string) bool { return key.Vault == o.Vault })
		}
		return cache.Result[*Value]{At: at, Failure: f.vaultFailure(o, err, tenant, vaultTenant)}
	}
}

// readFrom reads an object from its vault, a second time if the vault does not know the key of the token.
func (f *Fetch) readFrom(ctx context.Context, l *login.Login, token azcore.AccessToken, t target) (
	read *vault.Value, asked time.Time, err error,
) {
	reader := f.vaults.Reader(t.Vault, l, token)
	once := func() (*vault.Value, time.Time, error) {
		if t.pages > 0 {
			return reader.Changes(ctx, t.Request, t.pages)
		}
		return reader.Read(ctx, t.object, f.Limits.Files)
	}
	read, asked, err = once()
	if answer, ok := errors.AsType[*azure.Answer](err); !ok || !answer.UnknownKey() {
		return read, asked, err
	}
	select {
	case <-f.after(unknownKeyPause):
		return once()
	case <-ctx.Done():
		return read, asked, err
	}
}

// loginRefused removes the cached values that the identity has read from all vaults of the tenant, if the login is
// refused and did not merely fail.
func (f *Fetch) loginRefused(at time.Time, failure *cache.Failure, tenant string) cache.Result[*Value] {
	if failure.Refused {
		f.revoke(func(_ cache.Key, of string) bool {
			return login.ServiceOf(f.Identity) == azure.Metadata || of == tenant
		})
	}
	return cache.Result[*Value]{At: at, Failure: failure}
}

// revoke removes the cached values of the identity that match.
func (f *Fetch) revoke(match func(key cache.Key, tenant string) bool) {
	f.cache.Revoke(func(key cache.Key, tenant string) bool {
		return sameIdentity(key.Identity, f.key) && match(key, tenant)
	})
}

// logIn waits for a token of the identity that the policy has permitted. The SDK's clients would request the token
// themselves, but they ignore ctx while they wait.
func (f *Fetch) logIn(ctx context.Context, l *login.Login) (azcore.AccessToken, error) {
	if err := l.Prove(ctx); err != nil {
		return azcore.AccessToken{}, err
	}
	token, err := l.GetToken(ctx, policy.TokenRequestOptions{})
	if err != nil {
		return azcore.AccessToken{}, err
	}
	principal, known := l.Principal()
	if f.principal != nil && known && principal != *f.principal {
		return azcore.AccessToken{}, login.ErrAnotherAnswers
	}
	return token, nil
}

// valueOf reuses the decoded certificate of an unchanged value.
func (f *Fetch) valueOf(key cache.Key, read *vault.Value) *Value {
	if last, ok := f.cache.Last(key); ok && last.sameContent(read) {
		return &Value{Value: read, Decoded: last.Decoded}
	}
	return &Value{Value: read, Decoded: &decode.Certificate{}}
}
