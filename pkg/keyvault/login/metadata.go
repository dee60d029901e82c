package login

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/golang-jwt/jwt/v5"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const (
	// metadataVersion of the interface is the oldest that has tokens, so that every cloud has it.
	metadataVersion = "2018-02-01"
	// MetadataDial bounds the wait for a connection, and between two attempts. The first token can take seconds.
	MetadataDial = 2 * time.Second
	// longLife is from which on a token is renewed at half its life, and not shortly before its end: IMDS gives out
	// tokens for a day, and a managed identity should not depend on one moment of it.
	longLife = 2 * time.Hour
)

// ErrAnotherAnswers says that the metadata service gave a token of another identity than before for the same login. It
// does where the login names none and the node's identities have changed.
var ErrAnotherAnswers = &azure.Own{Err: errors.New("another identity answers than before"), Transient: true}

// metadataService is the way to the node's metadata service.
//
// The SDK has a credential for managed identities, too. It is not used, because it chooses by environment variables
// and by files of the machine whom it asks (App Service, Azure Arc, Cloud Shell), retries for longer than the kubelet waits,
// and keeps its tokens in a cache of the process that nobody can clear after a vault has refused one.
type metadataService struct{ pipeline runtime.Pipeline }

func newMetadataService(s *azure.Sender) *metadataService {
	return &metadataService{runtime.NewPipeline("keyvault", "", runtime.PipelineOptions{}, &policy.ClientOptions{
		Telemetry: policy.TelemetryOptions{ApplicationID: azure.ApplicationID},
		Transport: s,
		Retry: policy.RetryOptions{
			MaxRetries: 3, TryTimeout: azure.TryTimeout, RetryDelay: azure.RetryDelay, MaxRetryDelay: MetadataDial,
			ShouldRetry: func(resp *http.Response, err error) bool {
				if err != nil || azure.Throttles(resp) {
					return err != nil
				}
				switch resp.StatusCode {
				case http.StatusNotFound, http.StatusGone, // while the service is being updated
					http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway,
					http.StatusServiceUnavailable, http.StatusGatewayTimeout:
					return true
				}
				return false
			},
		},
	})}
}

// metadataCredential is a managed identity of the node: the one that is named by one of the three ids, or without any
// the node's own (system-assigned), or, where it has none, the only one that is assigned to it. It stays with the one that
// has answered first.
type metadataCredential struct {
	service  *metadataService
	resource string
	identity volume.Identity
	now      func() time.Time

	principal atomic.Pointer[volume.Principal] // the owner of its tokens; nil before the first
}

// GetToken implements azcore.TokenCredential. The options say nothing that is not known here.
func (c *metadataCredential) GetToken(ctx context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	query := url.Values{"api-version": {metadataVersion}, "resource": {c.resource}}
	for name, id := range map[string]string{
		"client_id": c.identity.ClientID, "object_id": c.identity.ObjectID, "msi_res_id": c.identity.ResourceID,
	} {
		if id != "" {
			query.Set(name, id)
		}
	}
	req, err := runtime.NewRequest(ctx, http.MethodGet, "http://"+azure.MetadataHost+"/metadata/identity/oauth2/token?"+query.Encode())
	if err != nil {
		return azcore.AccessToken{}, err
	}
	req.Raw().Header.Set("Metadata", "true")
	resp, err := c.service.pipeline.Do(req) //nolint:bodyclose // Payload and Drain close it
	if err != nil {
		return azcore.AccessToken{}, err
	}
	defer runtime.Drain(resp)
	if resp.StatusCode != http.StatusOK {
		return azcore.AccessToken{}, azure.LoginAnswer(azure.Metadata, resp)
	}
	return c.token(resp)
}

// token reads the answer, in which numbers are strings.
func (c *metadataCredential) token(resp *http.Response) (azcore.AccessToken, error) {
	var body struct {
		AccessToken string `json:"access_token"`
		ExpiresOn   string `json:"expires_on"` // Unix seconds
	}
	raw, err := runtime.Payload(resp)
	if err != nil {
		return azcore.AccessToken{}, err
	}
	if err := json.Unmarshal(raw, &body); err != nil || body.AccessToken == "" {
		return azcore.AccessToken{}, azure.ErrStrange
	}
	seconds, err := strconv.ParseInt(body.ExpiresOn, 10, 64)
	if err != nil {
		return azcore.AccessToken{}, azure.ErrStrange
	}
	who := principalOf(body.AccessToken)
	if !c.principal.CompareAndSwap(nil, &who) && *c.principal.Load() != who {
		return azcore.AccessToken{}, ErrAnotherAnswers
	}
	token := azcore.AccessToken{Token: body.AccessToken, ExpiresOn: time.Unix(seconds, 0)}
	if life := token.ExpiresOn.Sub(c.now()); life > longLife {
		token.RefreshOn = c.now().Add(life / 2)
	}
	return token, nil
}

// principalOf reads in an access token of Entra ID which identity it belongs to. It is not verified here: the vault that it
// is sent to does that.
// https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference
func principalOf(token string) volume.Principal {
	claims := jwt.MapClaims{} // the names of claims are case-sensitive, and encoding/json ignores the case of struct fields
	if _, _, err := jwt.NewParser().ParseUnverified(token, claims); err != nil {
		return volume.Principal{}
	}
	text := func(claim string) string {
		if said, ok := claims[claim].(string); ok && isPrintable(said) {
			return strings.ToLower(said)
		}
		return ""
	}
	return volume.Principal{ClientID: cmp.Or(text("appid"), text("azp")), ObjectID: text("oid"), ResourceID: text("xms_mirid")}
}
