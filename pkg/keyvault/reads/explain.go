package reads

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/cache"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/certificate"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/login"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/vault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// theVault is the vault's name as the service that was asked.
const theVault = "the vault"

func loginService(id volume.Identity) string {
	if login.ServiceOf(id) == azure.Metadata {
		return "the node's metadata service"
	}
	return "Entra ID"
}

// loginFailure returns the failure of a login; l is nil if there is none.
func (f *Fetch) loginFailure(l *login.Login, err error, tenant, vaultTenant string) *cache.Failure {
	if l != nil && errors.Is(err, context.DeadlineExceeded) {
		if reason := l.Throttle().Throttled(); reason != nil {
			err = reason
		}
	}
	return newFailure(err, loginService(f.Identity), tenant, vaultTenant)
}

// failureBytes is the memory of a failure without the message of an answer, measured and rounded up.
const failureBytes = 256

func newFailure(err error, asked, tenant, vaultTenant string) *cache.Failure {
	failure := &cache.Failure{
		Err: err, Asked: asked, Refused: azure.Refused(err), Bytes: failureBytes, Tenant: tenant, VaultTenant: vaultTenant,
	}
	if answer, ok := errors.AsType[*azure.Answer](err); ok {
		failure.Bytes += answer.MessageBytes()
	}
	return failure
}

// vaultFailure returns the failure of a request to a vault.
func (f *Fetch) vaultFailure(o volume.Object, err error, tenant, vaultTenant string) *cache.Failure {
	if errors.Is(err, context.DeadlineExceeded) {
		err = azure.NewUnreached(hostOf(o.Vault), err)
		if reason := f.vaults.Throttle(o.Vault).Throttled(); reason != nil {
			err = reason
		}
	}
	failure := newFailure(err, theVault, tenant, vaultTenant)
	answer, answered := errors.AsType[*azure.Answer](err)
	failure.Absent = answered && (answer.Absent() || answer.Disabled()) || errors.Is(err, vault.ErrPending)
	return failure
}

// subject is the beginning of every error: `secrets[0]: secret "a" of https://v.vault.azure.net as workload 1111-...`.
func (f *Fetch) subject(o volume.Object) string {
	what := fmt.Sprintf("%s %q", o.Kind, o.Name)
	switch {
	case o.Kind == volume.KindSelection:
		what = "the list of secrets"
	case o.Name == "":
		what = "the list of certificates"
	}
	if o.Version != "" {
		what += " version " + o.Version
	}
	if o.History != nil {
		what = "the versions of " + what
	}
	return fmt.Sprintf("%s: %s of %s as %s", o.Source, what, o.Vault, login.Describe(f.Identity))
}

// explain returns the error of an object as one line.
func (f *Fetch) explain(ctx context.Context, o volume.Object, failure *cache.Failure) error {
	var (
		err         = failure.Err
		about       = f.subject(o)
		answer      *azure.Answer
		unreached   *azure.Unreached
		certificate certificate.Unusable
	)
	switch {
	case errors.Is(err, cache.ErrImpatient):
		err = azure.NewUnreached(hostOf(o.Vault), context.DeadlineExceeded)
	case errors.Is(err, context.DeadlineExceeded): // of the fetch, if not of ctx
		err = azure.NewUnreached(cmp.Or(failure.Asked, theVault), err)
	}
	switch {
	case errors.As(err, &answer) && answer.IsLogin():
		refused := login.Refused{
			Answer: answer, Identity: f.Identity, Cloud: f.cloud.Name, Tenant: failure.Tenant, VaultTenant: failure.VaultTenant,
		}
		return volume.Errorf(refused.Sentinel(), "%s: %s answered %v: %s", about, loginService(f.Identity), answer, refused.Hint())
	case errors.As(err, &answer):
		refused := vault.Refused{
			Answer: answer, Object: o, FromClass: f.FromClass, Managed: login.KindOf(f.Identity) == login.ByMetadata,
			Tenant: failure.Tenant, VaultTenant: failure.VaultTenant,
		}
		return volume.Errorf(refused.Sentinel(), "%s: %v: %s", about, answer, refused.Hint())
	case ctx.Err() != nil:
		return fmt.Errorf("%s: waiting for %s: %w", about, cmp.Or(failure.Asked, theVault), ctx.Err())
	case errors.Is(err, login.ErrNoLogin):
		return volume.Errorf(volume.ErrInvalid, "%s: no login can be made of clientID and tenantID; check them", about)
	case errors.As(err, &certificate) && f.Identity.Kind == volume.Cluster:
		return volume.Errorf(volume.ErrPrecondition, "%s: the certificate at aadClientCertPath of the cluster's file %v", about, certificate)
	case errors.As(err, &certificate):
		return volume.Errorf(volume.ErrInvalid, "%s: nodePublishSecretRef[clientcertificate] %v", about, certificate)
	case errors.As(err, &unreached) && unreached.Host == azure.MetadataHost:
		return volume.Errorf(volume.ErrUnavailable, "%s: no answer from %s: %s; is this node a VM of Azure, whose metadata service its pods may reach?",
			about, azure.MetadataHost, unreached.Why)
	case errors.As(err, &unreached):
		return volume.Errorf(volume.ErrUnavailable, "%s: %v; %s", about, unreached, unreached.Hint)
	default:
		return f.explainOwn(about, failure.Asked, err)
	}
}

// explainOwn does the same for the errors of this program.
func (f *Fetch) explainOwn(about, asked string, err error) error {
	switch {
	case errors.Is(err, vault.ErrChallenge):
		return volume.Errorf(volume.ErrUnavailable, "%s: the vault gave no readable challenge (HTTP 401, WWW-Authenticate); is this a key vault of %s?", about, f.cloud.Name)
	case errors.Is(err, vault.ErrLongList):
		return volume.Errorf(volume.ErrTooLarge, "%s: %v (--max-volume-files); select fewer, by prefix or tags", about, err)
	case errors.Is(err, vault.ErrManyVersions):
		return volume.Errorf(volume.ErrTooLarge, "%s: %v; leave the version out, or purge the object", about, err)
	case errors.Is(err, vault.ErrPending):
		return volume.Errorf(volume.ErrPrecondition, "%s: %v; wait for its issuer, or %s", about, err, vault.WithoutIt(f.FromClass))
	case errors.Is(err, vault.ErrNoVersion):
		return volume.Errorf(volume.ErrNotFound, "%s: %v; check the name and the version, or recover or enable it", about, err)
	case errors.Is(err, vault.ErrNoValue):
		return volume.Errorf(volume.ErrPrecondition, "%s: %v; set one, or disable it", about, err)
	case errors.Is(err, login.ErrAnotherAnswers):
		return volume.Errorf(volume.ErrUnavailable, "%s: the identities of the node have changed, %v; it is asked anew at the next try", about, err)
	case errors.Is(err, azure.ErrStrange), errors.Is(err, azure.ErrPanic):
		return volume.Errorf(volume.ErrUnavailable, "%s: %s gave a strange answer, %v; check what answers under its name", about, asked, err)
	default:
		return volume.Errorf(volume.ErrUnavailable, "%s: %s failed", about, asked)
	}
}

func hostOf(vault string) string { return strings.TrimPrefix(vault, "https://") }
