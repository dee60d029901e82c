package azure

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// Service is the service that answered a request.
type Service string

// The services that this package knows.
const (
	Vault    Service = "vault"
	Entra    Service = "Entra ID"
	Metadata Service = "metadata service" // of the node: it issues tokens too
)

// Answer is a refusal by a service, reduced to what is safe to repeat.
type Answer struct {
	Service Service
	Status  int      // HTTP
	Codes   []string // the service's own, outermost first: Forbidden, ForbiddenByRbac
	message string   // the beginning: it is searched for words and never printed

	challenged bool // it has a readable challenge
}

// ChallengeHeader is set in a vault's 401 by the code that has read its challenge. A header of this name from the vault
// itself is removed.
const ChallengeHeader = "X-Keyvault-Csi-Challenge"

// messageBytes is how much of a message is kept. Azure's have about 1 KB, and the cache may keep a refusal.
const messageBytes = 4 << 10

// Error returns the status and the codes.
func (a *Answer) Error() string {
	return strings.TrimSuffix(fmt.Sprintf("HTTP %d %s", a.Status, strings.Join(a.Codes, ", ")), " ")
}

// Has reports whether the service named one of the codes.
func (a *Answer) Has(codes ...string) bool {
	return slices.ContainsFunc(a.Codes, func(known string) bool {
		return slices.ContainsFunc(codes, func(code string) bool { return strings.EqualFold(known, code) })
	})
}

// MessageBytes is the size of the message, which is most of the answer's.
func (a *Answer) MessageBytes() int { return len(a.message) }

// Mentions reports whether the message contains the words, which must be in lower case.
func (a *Answer) Mentions(words string) bool {
	return strings.Contains(strings.ToLower(a.message), words)
}

// IsLogin reports whether the answer is from a service that issues tokens, not from the vault.
func (a *Answer) IsLogin() bool { return a.Service != Vault }

// Foreign reports whether the answer has not the form of the service's refusals: something else may have answered in its
// place, such as a proxy, a load balancer or a captive portal. Old 401s of a vault have a challenge and no code.
//
// A 404 must name the kind of the object, because other services have 404s with a code too.
func (a *Answer) Foreign() bool {
	if a.Service == Vault && a.Status == http.StatusNotFound {
		return !a.Has("SecretNotFound", "CertificateNotFound", "KeyNotFound")
	}
	return len(a.Codes) == 0 && !a.challenged
}

// Disabled reports whether the object exists but is disabled: SecretDisabled, CertificateDisabled, KeyDisabled.
func (a *Answer) Disabled() bool {
	return a.Status == http.StatusForbidden && a.Service == Vault && !a.Foreign() &&
		(a.Has("SecretDisabled", "CertificateDisabled", "KeyDisabled") || a.Mentions("on a disabled "))
}

// Absent reports whether the vault says that there is no such object.
func (a *Answer) Absent() bool {
	return a.Status == http.StatusNotFound && a.Service == Vault && !a.Foreign()
}

// UnknownKey reports whether a vault does not know the key that signed a token. This happens now and then with a valid
// token, while Entra ID changes its keys.
func (a *Answer) UnknownKey() bool {
	return a.Status == http.StatusUnauthorized && a.Service == Vault && a.Has("AKV10046")
}

// IssuerUnreached reports whether Entra ID cannot fetch the keys of a federated token's issuer.
func (a *Answer) IssuerUnreached() bool {
	return a.IsLogin() && (a.Has("AADSTS90061", "AADSTS50166") || a.Mentions("request to external oidc endpoint failed"))
}

// Unavailable reports whether the service could not answer now, so that a later attempt may succeed.
func (a *Answer) Unavailable() bool {
	switch {
	case a.Foreign(), a.UnknownKey():
		return true
	case a.Service == Vault:
		// 408, 429, 5xx, and what no vault sends: a redirect.
		switch a.Status {
		case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
			return false
		}
		return true
	case a.Status == http.StatusTooManyRequests, a.Status == http.StatusRequestTimeout, a.Status >= 500, a.Status < 400:
		return true
	case a.Service == Metadata && (a.Status == http.StatusNotFound || a.Status == http.StatusGone): // it is being updated
		return true
	default:
		// Entra ID asks for another attempt with these, also with HTTP 400.
		// https://learn.microsoft.com/entra/identity-platform/reference-error-codes
		return a.Has("temporarily_unavailable", "AADSTS90006", "AADSTS90024", "AADSTS90033", "AADSTS90055") || a.IssuerUnreached()
	}
}

// Own is an error of this program. [Reduce] keeps it, because its text is known to be safe.
type Own struct {
	Err       error
	Transient bool // a later attempt may succeed
}

// Error returns the text of the error.
func (o *Own) Error() string { return o.Err.Error() }

// Unwrap returns the error.
func (o *Own) Unwrap() error { return o.Err }

var (
	// ErrPanic replaces a panic of the SDK, see [Guarded].
	ErrPanic = &Own{errors.New("the Azure SDK failed on it"), true}
	// ErrStrange is an answer that no service of Azure gives.
	ErrStrange = &Own{errors.New("it cannot be understood"), true}
)

// Refused reports whether a reduced error is final until the configuration changes. It is false if the service could
// not answer.
func Refused(err error) bool {
	if answer, ok := errors.AsType[*Answer](err); ok {
		return !answer.Unavailable()
	}
	own, ok := errors.AsType[*Own](err)
	return ok && !own.Transient
}

// Guarded runs a call into the SDK, which panics on some answers. It drops the value of a panic, which may hold a
// secret.
func Guarded(call func() error) (err error) {
	defer func() {
		if recover() != nil {
			err = ErrPanic
		}
	}()
	return call()
}

// Reduce turns an error of the SDK into an [Answer], an [Unreached] or an [Own]. No other error leaves the packages
// that call the SDK, not even wrapped. seen is the attempt that failed.
func Reduce(err error, seen *Attempt) error {
	var answer *Answer
	var unreached *Unreached
	var own *Own
	var response *azcore.ResponseError
	var authentication *azidentity.AuthenticationFailedError
	host, status, transport := seen.last()
	switch {
	case errors.As(err, &answer):
		return answer
	case errors.As(err, &unreached):
		return unreached
	case errors.As(err, &response):
		return vaultAnswer(response)
	case errors.As(err, &authentication) && authentication.RawResponse != nil && authentication.RawResponse.StatusCode != http.StatusOK:
		return LoginAnswer(Entra, authentication.RawResponse)
	case transport != nil:
		return NewUnreached(host, transport)
	case errors.As(err, &own):
		return own
	case status >= http.StatusBadRequest && host == MetadataHost:
		return &Answer{Service: Metadata, Status: status}
	case status >= http.StatusBadRequest && authentication != nil:
		return &Answer{Service: Entra, Status: status}
	case status >= http.StatusBadRequest:
		return &Answer{Service: Vault, Status: status}
	default:
		return ErrStrange
	}
}

func vaultAnswer(e *azcore.ResponseError) *Answer {
	type code struct {
		Code       string `json:"code"`
		Message    string `json:"message"`
		InnerError *code  `json:"innererror"`
	}
	var body struct {
		Error code `json:"error"`
	}
	a := &Answer{Service: Vault, Status: e.StatusCode}
	a.read(e.RawResponse, &body)
	a.keep(body.Error.Message)
	for c := &body.Error; c != nil; c = c.InnerError {
		a.add(c.Code)
	}
	a.challenged = e.StatusCode == http.StatusUnauthorized && e.RawResponse.Header.Get(ChallengeHeader) != ""
	a.add(akvCode.FindString(a.message))
	if code := bracketCode.FindStringSubmatch(a.message); code != nil {
		a.add(code[1])
	}
	return a
}

// LoginAnswer reads a refusal in the form of OAuth 2.0 (RFC 6749, section 5.2), with the codes of Entra ID.
func LoginAnswer(service Service, resp *http.Response) *Answer {
	var body struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
		Codes       []int  `json:"error_codes"`
	}
	a := &Answer{Service: service, Status: resp.StatusCode}
	a.read(resp, &body)
	a.keep(body.Description)
	a.add(body.Error)
	if code := aadstsCode.FindString(a.message); code != "" {
		a.add(code)
	} else if len(body.Codes) > 0 {
		a.add(fmt.Sprintf("AADSTS%d", body.Codes[0]))
	}
	return a
}

// read fills body. An answer of another shape has no codes.
func (a *Answer) read(resp *http.Response, body any) {
	if raw, err := runtime.Payload(resp); err == nil {
		_ = json.Unmarshal(raw, body)
	}
}

// keep copies the beginning of the message, so that the rest can be freed.
func (a *Answer) keep(message string) {
	a.message = strings.Clone(message[:min(len(message), messageBytes)])
}

var (
	akvCode     = regexp.MustCompile(`\bAKV\d{4,6}\b`)
	bracketCode = regexp.MustCompile(`^\[([A-Za-z]+)\]`) // as in "[TokenExpired] Error validating token"
	aadstsCode  = regexp.MustCompile(`\bAADSTS\d{4,8}\b`)
	serviceCode = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,63}$`)
)

// add keeps a code only if it has the syntax of one, because it comes from the network.
func (a *Answer) add(code string) {
	if serviceCode.MatchString(code) && !a.Has(code) && len(a.Codes) < 4 {
		a.Codes = append(a.Codes, code)
	}
}
