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
	// metadataVersion is the oldest version of the interface that has tokens, so that every cloud supports it.
	metadataVersion = "2018-02-01"
	// MetadataDial bounds the wait for a connection, and the pause between two attempts. The first token can take
	// seconds.
	MetadataDial = 2 * time.Second
	// longLife is the lifetime from which a token is renewed at half its life. IMDS issues tokens for a day, and a
	// renewal shortly before the end would leave little time for an outage.
	longLife = 2 * time.Hour
)

// ErrAnotherAnswers means that the metadata service gave a token of another identity than before for the same login.
// This happens if the login names no identity and the node's identities have changed.
var ErrAnotherAnswers = &azure.Own{Err: errors.New("another identity answers than before"), Transient: true}

// metadataService sends requests to the node's metadata service.
//
// It replaces the SDK's credential for managed identities. That one chooses its service by environment variables and
// files of the machine (App Service, Azure Arc, Cloud Shell), retries for longer than the kubelet waits, and keeps
// its tokens in a cache of the process that cannot be cleared after a vault has refused one.
type metadataService struct{ pipeline runtime.Pipeline }

func newMetadataService(s *azure.Sender) *metadataService {
	retry := azure.Retries(MetadataDial, 0)
	retry.MaxRetries = 3
	usual := retry.ShouldRetry
	retry.ShouldRetry = func(resp *http.Response, err error) bool {
		updating := func(status int) bool { return status == http.StatusNotFound || status == http.StatusGone }
		return usual(resp, err) || updating(resp.StatusCode) && !azure.Throttles(resp)
	}
	return &metadataService{runtime.NewPipeline("keyvault", "", runtime.PipelineOptions{}, &policy.ClientOptions{
		Telemetry: policy.TelemetryOptions{ApplicationID: azure.ApplicationID},
		Transport: s,
		Retry:     retry,
	})}
}

// metadataCredential is a managed identity of the node. One of the three ids names it. Without an id it is the node's
// own (system-assigned), or the only assigned one if the node has none. It stays with the first identity that
// answers.
type metadataCredential struct {
	service  *metadataService
	resource string
	identity volume.Identity
	now      func() time.Time

	principal atomic.Pointer[volume.Principal] // owner of its tokens; nil before the first
}

// GetToken implements azcore.TokenCredential. It ignores the options.
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

// token parses the answer, in which numbers are strings.
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

// principalOf reads the identity from an access token of Entra ID. It does not verify the token: the vault does that.
// https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference
func principalOf(token string) volume.Principal {
	claims := jwt.MapClaims{} // claims are case-sensitive, but encoding/json ignores the case of struct fields
	if _, _, err := jwt.NewParser().ParseUnverified(token, claims); err != nil {
		return volume.Principal{}
	}
	text := func(claim string) string {
		if value, ok := claims[claim].(string); ok && isPrintable(value) {
			return strings.ToLower(value)
		}
		return ""
	}
	return volume.Principal{ClientID: cmp.Or(text("appid"), text("azp")), ObjectID: text("oid"), ResourceID: text("xms_mirid")}
}
