package keyvault

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
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/login"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/vault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

type waitFor = func(name string, s cache.Service)

// value is what a vault gave for an object, with what its certificate was taken apart into.
type value struct {
	*vault.Value
	*decoded
}

// ask asks the vault for an object: first for its challenge if its tenant is unknown, then Entra ID or the metadata service for a
// token. It runs for all callers that want the same object as the same identity. A refused token is renewed once: it may have
// been revoked, or the vault's clock is ahead of ours. That a new token is refused, too, is an answer.
func (f *fetch) ask(ctx context.Context, waitFor waitFor, request vault.Request, o volume.Object, key cache.Key) cache.Result[*value] {
	at := f.now()
	waitFor(theVault, f.Client.vaults.Throttle(o.Vault))
	vaultTenant, err := f.Client.vaults.Challenge(ctx, request)
	if err != nil {
		return cache.Result[*value]{At: at, Failure: f.vaultFailure(o, err, "", "")}
	}
	tenant := cmp.Or(f.Identity.TenantID, vaultTenant)
	for retried := false; ; retried = true {
		l, err := f.logins.Of(f.Request, tenant)
		held := err == nil && l.HoldsToken()
		if err == nil {
			if !l.Ready(ctx) {
				waitFor(loginService(f.Identity), l.Throttle())
			}
			err = f.logIn(ctx, l)
		}
		if err != nil {
			return f.loginRefused(at, f.loginFailure(l, err, tenant, vaultTenant), tenant)
		}
		waitFor(theVault, f.Client.vaults.Throttle(o.Vault))
		read, asked, err := f.Client.vaults.Read(ctx, l, o, f.Limits.Files)
		if err == nil {
			return cache.Result[*value]{Value: f.valueOf(key, read), At: asked, Tenant: tenant}
		}
		answer, answered := errors.AsType[*azure.Answer](err)
		switch {
		case answered && answer.IsLogin(): // the SDK asked for a token: the vault has revoked the one it was given
			return f.loginRefused(at, f.loginFailure(l, err, tenant, vaultTenant), tenant)
		case answered && answer.Status == http.StatusUnauthorized:
			l.Reject()
			if now, ok := f.Client.vaults.Tenant(o.Vault); ok {
				vaultTenant = now
			}
			if held && !retried {
				continue
			}
			f.revoke(func(key cache.Key, _ string) bool { return key.Vault == o.Vault })
		}
		return cache.Result[*value]{At: at, Failure: f.vaultFailure(o, err, tenant, vaultTenant)}
	}
}

// loginRefused takes away what the identity was given before by all vaults of the tenant, if the login is refused and has not
// just failed.
func (f *fetch) loginRefused(at time.Time, failure *cache.Failure, tenant string) cache.Result[*value] {
	if failure.Refused {
		f.revoke(func(_ cache.Key, of string) bool {
			return login.ServiceOf(f.Identity) == azure.Metadata || of == tenant
		})
	}
	return cache.Result[*value]{At: at, Failure: failure}
}

// revoke takes away the values of the identity that match.
func (f *fetch) revoke(match func(key cache.Key, tenant string) bool) {
	f.cache.Revoke(func(key cache.Key, tenant string) bool {
		return sameIdentity(key.Identity, f.key) && match(key, tenant)
	})
}

// logIn waits for a token that belongs to the identity which the policy has permitted. The SDK's clients would ask for the
// token themselves, but without looking at ctx while they wait.
func (f *fetch) logIn(ctx context.Context, l *login.Login) error {
	if err := l.Prove(ctx); err != nil {
		return err
	}
	if err := token(ctx, l); err != nil {
		return err
	}
	who, known := l.Principal()
	if f.principal != nil && known && who != *f.principal {
		return login.ErrAnotherAnswers
	}
	return nil
}

func token(ctx context.Context, c azcore.TokenCredential) error {
	_, err := c.GetToken(ctx, policy.TokenRequestOptions{})
	return err
}

// valueOf takes over what an unchanged certificate was taken apart into.
func (f *fetch) valueOf(key cache.Key, read *vault.Value) *value {
	if last, ok := f.cache.Last(key); ok && last.sameContent(read) {
		return &value{read, last.decoded}
	}
	return &value{read, &decoded{}}
}
