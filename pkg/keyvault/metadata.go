package keyvault

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"k8s.io/klog/v2"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// metadataHost is the link-local address of Azure's instance metadata service, which gives the node's own tokens to
// whoever asks from the node.
// https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token
const metadataHost = "169.254.169.254"

const (
	// metadataVersion of the interface is the oldest that has tokens, so that every cloud has it.
	metadataVersion = "2018-02-01"
	// metadataDial bounds the wait for a connection: the service is on the node's own host, and outside Azure, where
	// nobody answers at its address, that should be known soon. Its first token can take it seconds.
	metadataDial = 2 * time.Second
	// longLife is from which on a token is renewed at half its life, and not shortly before its end: IMDS gives out
	// tokens for a day, and a managed identity should not depend on one moment of it.
	longLife = 2 * time.Hour
)

// metadataService is the way to the node's metadata service.
//
// The SDK has a credential for managed identities, too. It is not used, because it chooses by environment variables
// and by files of the machine whom it asks (App Service, Azure Arc, Cloud Shell), retries for longer than the kubelet waits,
// and keeps its tokens in a cache of the process that nobody can clear after a vault has refused one.
type metadataService struct {
	http     *http.Client
	log      klog.Logger
	pipeline runtime.Pipeline
}

func newMetadataService(o Options) *metadataService {
	s := &metadataService{log: o.Logger, http: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  nil, // the answer is a token in clear text
			DialContext:            (&net.Dialer{Timeout: metadataDial}).DialContext,
			MaxConnsPerHost:        4,
			MaxIdleConnsPerHost:    1,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: 64 << 10,
		},
	}}
	s.pipeline = runtime.NewPipeline("keyvault", "", runtime.PipelineOptions{}, &policy.ClientOptions{
		Telemetry: policy.TelemetryOptions{ApplicationID: applicationID},
		Transport: s,
		Retry: policy.RetryOptions{
			MaxRetries: 3, TryTimeout: tryTimeout, RetryDelay: retryDelay, MaxRetryDelay: metadataDial,
			// 404 and 410 are said while the service is being updated. 429 is for the login to wait for.
			StatusCodes: []int{
				http.StatusNotFound, http.StatusRequestTimeout, http.StatusGone,
				http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
			},
		},
	})
	return s
}

// Do implements azcore's policy.Transporter.
func (s *metadataService) Do(req *http.Request) (*http.Response, error) {
	resp, err := s.http.Do(req)
	note(req, resp, err)
	if err != nil {
		return nil, err
	}
	s.log.V(4).Info("answer", "host", req.URL.Host, "path", req.URL.Path, "status", resp.StatusCode)
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: maxBody, req: req}
	return resp, nil
}

// metadataCredential is a managed identity of the node: the one that is named by one of the three ids, or without any
// the node's own (system-assigned), or, where it has none, the only one that is assigned to it. It stays with the one that
// has answered first.
type metadataCredential struct {
	service  *metadataService
	resource string
	identity volume.Identity
	now      func() time.Time

	principal atomic.Pointer[volume.Principal] // whom its tokens speak for; nil before the first
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
	req, err := runtime.NewRequest(ctx, http.MethodGet, "http://"+metadataHost+"/metadata/identity/oauth2/token?"+query.Encode())
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
		return azcore.AccessToken{}, metadataAnswer(resp)
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
		return azcore.AccessToken{}, errStrange
	}
	seconds, err := strconv.ParseInt(body.ExpiresOn, 10, 64)
	if err != nil {
		return azcore.AccessToken{}, errStrange
	}
	if err := c.stays(body.AccessToken); err != nil {
		return azcore.AccessToken{}, err
	}
	token := azcore.AccessToken{Token: body.AccessToken, ExpiresOn: time.Unix(seconds, 0)}
	if life := token.ExpiresOn.Sub(c.now()); life > longLife {
		token.RefreshOn = c.now().Add(life / 2)
	}
	return token, nil
}

func metadataAnswer(resp *http.Response) *answer {
	var body struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	a := &answer{entra: true, metadata: true, status: resp.StatusCode}
	if raw, err := runtime.Payload(resp); err == nil {
		_ = json.Unmarshal(raw, &body)
	}
	a.message = beginning(body.Description)
	a.add(body.Error)
	return a
}
