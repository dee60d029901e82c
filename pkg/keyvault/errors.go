package keyvault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"syscall"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// An error of the SDK prints the whole response, over many lines. So none leaves this package, not even wrapped:
// reduced takes from it what may be repeated, explain says it in one line.

// answer is a refusal: what a service said, without what else its body holds.
type answer struct {
	entra    bool // who gives out tokens said it, else the vault
	metadata bool // with entra: the node's metadata service, and not Entra ID itself
	status   int
	codes    []string // the service's own, outermost first: Forbidden, ForbiddenByRbac
	message  string   // of the service, the beginning; only ever searched for words, never repeated
}

// messageBytes is what is looked at of a message: those of Azure have some 1 KB. It stays as long as the refusal counts.
const messageBytes = 4 << 10

// beginning is what is kept of a message. The rest of it does not stay.
func beginning(message string) string {
	return strings.Clone(message[:min(len(message), messageBytes)])
}

func (a *answer) Error() string {
	return strings.TrimSuffix(fmt.Sprintf("HTTP %d %s", a.status, strings.Join(a.codes, ", ")), " ")
}

func (a *answer) has(codes ...string) bool {
	for _, code := range codes {
		for _, said := range a.codes {
			if strings.EqualFold(said, code) {
				return true
			}
		}
	}
	return false
}

func (a *answer) mentions(words string) bool {
	return strings.Contains(strings.ToLower(a.message), words)
}

// disabled says that the object exists but is switched off: SecretDisabled, CertificateDisabled, KeyDisabled.
func (a *answer) disabled() bool {
	return a.status == http.StatusForbidden && !a.entra &&
		(a.has("SecretDisabled", "CertificateDisabled", "KeyDisabled") || a.mentions("on a disabled "))
}

func (a *answer) absent() bool { return a.status == http.StatusNotFound && !a.entra }

// unreached says that nobody answered.
type unreached struct {
	host string
	why  string // stable: no addresses, ports or times
	hint string
}

func (u *unreached) Error() string { return "no answer from " + u.host + ": " + u.why }

var (
	errPanic   = errors.New("the Azure SDK failed on it")
	errStrange = errors.New("it cannot be understood")
	errNoValue = errors.New("the secret has no value")
)

// guarded runs calls into the SDK. It panics on some answers; the value of a panic may hold anything, so it is dropped.
func guarded(call func() error) (err error) {
	defer func() {
		if recover() != nil {
			err = errPanic
		}
	}()
	return call()
}

// reduced turns an error of the SDK into an answer, an unreached or one of the errors above. seen is what the
// transport noted meanwhile.
func reduced(err error, seen *outcome) error {
	var response *azcore.ResponseError
	var authentication *azidentity.AuthenticationFailedError
	var earlier *answer
	var failed *unreached
	var certificate unusable
	host, status, transport := seen.last()
	switch {
	case errors.As(err, &earlier):
		return earlier
	case errors.As(err, &failed):
		return failed
	case errors.As(err, &certificate):
		return certificate
	case errors.As(err, &response):
		return vaultAnswer(response)
	case errors.As(err, &authentication) && authentication.RawResponse != nil && authentication.RawResponse.StatusCode != http.StatusOK:
		return entraAnswer(authentication.RawResponse)
	case transport != nil:
		return newUnreached(host, transport)
	case errors.Is(err, errPanic), errors.Is(err, errMalformedChallenge), errors.Is(err, errNoValue), errors.Is(err, errAnotherAnswers):
		return err
	case status >= http.StatusBadRequest:
		metadata := host == metadataHost
		return &answer{entra: metadata || authentication != nil, metadata: metadata, status: status}
	default:
		return errStrange
	}
}

func vaultAnswer(e *azcore.ResponseError) *answer {
	type code struct {
		Code       string `json:"code"`
		Message    string `json:"message"`
		InnerError *code  `json:"innererror"`
	}
	var body struct {
		Error code `json:"error"`
	}
	a := &answer{status: e.StatusCode}
	if raw, err := runtime.Payload(e.RawResponse); err == nil {
		_ = json.Unmarshal(raw, &body) // a body of another shape has no codes
	}
	a.message = beginning(body.Error.Message)
	a.add(e.ErrorCode)
	for c := &body.Error; c != nil; c = c.InnerError {
		a.add(c.Code)
	}
	a.add(akvCode.FindString(a.message))
	return a
}

func entraAnswer(resp *http.Response) *answer {
	var body struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
		Codes       []int  `json:"error_codes"`
	}
	a := &answer{entra: true, status: resp.StatusCode}
	if raw, err := runtime.Payload(resp); err == nil {
		_ = json.Unmarshal(raw, &body)
	}
	a.message = beginning(body.Description)
	a.add(body.Error)
	if code := aadstsCode.FindString(a.message); code != "" {
		a.add(code)
	} else if len(body.Codes) > 0 {
		a.add(fmt.Sprintf("AADSTS%d", body.Codes[0]))
	}
	return a
}

var (
	akvCode     = regexp.MustCompile(`\bAKV\d{4,6}\b`)
	aadstsCode  = regexp.MustCompile(`\bAADSTS\d{4,8}\b`)
	serviceCode = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,63}$`)
)

// add takes a code over if it looks like one: the word comes from the network.
func (a *answer) add(code string) {
	if serviceCode.MatchString(code) && !a.has(code) && len(a.codes) < 4 {
		a.codes = append(a.codes, code)
	}
}

// newUnreached finds the stable words for an error of the transport, whose own text holds ports and addresses.
func newUnreached(host string, err error) *unreached {
	var (
		dns         *net.DNSError
		operation   *net.OpError
		refused     proxyRefusal
		certificate *tls.CertificateVerificationError
		invalid     x509.CertificateInvalidError
		foreign     x509.HostnameError
		errno       syscall.Errno
		timeout     net.Error
	)
	switch {
	case errors.As(err, &refused):
		return &unreached{host, fmt.Sprintf("the proxy answered CONNECT with HTTP %d", refused.status), "check the name, and what the proxy allows"}
	case errors.As(err, &operation) && operation.Op == "proxyconnect":
		return &unreached{host, "the proxy cannot be reached", "check HTTPS_PROXY and NO_PROXY of the driver"}
	case errors.As(err, &dns) && dns.IsNotFound:
		return &unreached{host, "there is no such host", "check the name, and the DNS of the node"}
	case errors.As(err, &dns):
		return &unreached{host, "its name cannot be resolved now", "check the DNS of the node"}
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return &unreached{host, "its certificate has expired or is not valid yet", "check the clock of the node, and what answers under this name"}
	case errors.As(err, &foreign):
		return &unreached{host, "its certificate is for another host", "check what answers under this name"}
	case errors.As(err, &certificate):
		return &unreached{host, "its certificate is not trusted", "behind an inspecting proxy, give its root with --ca-bundle"}
	case errors.Is(err, errBodyTooLarge):
		return &unreached{host, errBodyTooLarge.Error(), "check what answers under this name"}
	case errors.As(err, &errno) && errno != syscall.ECONNRESET && errno != syscall.EPIPE: // these two, or just EOF: it is a race
		return &unreached{host, errno.Error(), "check the network between the node and it"}
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return &unreached{host, "timed out", "check the network between the node and it"}
	default:
		return &unreached{host, "the connection broke", "check the network between the node and it"}
	}
}

// explain says in one line what went wrong with the matter at hand. waited names what ctx ended in the middle of.
func (m matter) explain(ctx context.Context, waited string, err error) error {
	var (
		said    *answer
		missing *unreached
		unread  unusable
	)
	switch {
	case errors.As(err, &said) && said.entra:
		return volume.Errorf(entraSentinel(said), "%s: %s answered %v: %s", m, m.authority(), said, m.entraHint(said))
	case errors.As(err, &said):
		return volume.Errorf(vaultSentinel(said), "%s: %v: %s", m, said, m.vaultHint(said))
	case ctx.Err() != nil:
		return fmt.Errorf("%s: waiting for %s: %w", m, waited, ctx.Err())
	case errors.As(err, &unread) && m.identity.Kind == volume.Cluster:
		return volume.Errorf(volume.ErrPrecondition, "%s: the certificate at aadClientCertPath of the cluster's file %v", m, unread)
	case errors.As(err, &unread):
		return volume.Errorf(volume.ErrInvalid, "%s: nodePublishSecretRef[clientcertificate] %v", m, unread)
	case errors.As(err, &missing) && missing.host == metadataHost:
		return volume.Errorf(volume.ErrUnavailable, "%s: no answer from %s: %s; is this node a VM of Azure, whose metadata service its pods may reach?",
			m, metadataHost, missing.why)
	case errors.As(err, &missing):
		return volume.Errorf(volume.ErrUnavailable, "%s: %v; %s", m, missing, missing.hint)
	case errors.Is(err, errMalformedChallenge):
		return volume.Errorf(volume.ErrUnavailable, "%s: the vault gave no readable challenge (HTTP 401, WWW-Authenticate); is this a key vault of %s?", m, m.cloud.Name)
	case errors.Is(err, errLongList):
		return volume.Errorf(volume.ErrTooLarge, "%s: %v (--max-volume-files); select fewer, by prefix or tags", m, err)
	case errors.Is(err, errNoValue):
		return volume.Errorf(volume.ErrPrecondition, "%s: %v; set one, or disable it", m, err)
	case errors.Is(err, errAnotherAnswers):
		return volume.Errorf(volume.ErrUnavailable, "%s: the identities of the node have changed, %v; it is asked anew at the next try", m, err)
	case errors.Is(err, errStrange), errors.Is(err, errPanic):
		return volume.Errorf(volume.ErrUnavailable, "%s: %s gave a strange answer, %v; check what answers under its name", m, waited, err)
	default:
		return volume.Errorf(volume.ErrUnavailable, "%s: %s failed", m, waited)
	}
}

// vaultSentinel is the one mapping of a vault's refusal.
func vaultSentinel(a *answer) error {
	switch {
	case a.disabled():
		return volume.ErrPrecondition
	case a.status == http.StatusBadRequest && a.apiVersion():
		return volume.ErrPrecondition
	case a.status == http.StatusBadRequest:
		return volume.ErrInvalid
	case a.status == http.StatusUnauthorized:
		return volume.ErrUnauthenticated
	case a.status == http.StatusForbidden:
		return volume.ErrDenied
	case a.status == http.StatusNotFound:
		return volume.ErrNotFound
	default: // 408, 429, 5xx, and what no vault says: a redirect, a page of a proxy
		return volume.ErrUnavailable
	}
}

// entraSentinel is the one mapping of a refusal of Entra ID.
func entraSentinel(a *answer) error {
	switch {
	case a.status == http.StatusTooManyRequests, a.status == http.StatusRequestTimeout, a.status >= 500, a.status < 400:
		return volume.ErrUnavailable
	case a.has("temporarily_unavailable"):
		return volume.ErrUnavailable
	case a.metadata && (a.status == http.StatusNotFound || a.status == http.StatusGone):
		return volume.ErrUnavailable
	default:
		return volume.ErrUnauthenticated
	}
}
