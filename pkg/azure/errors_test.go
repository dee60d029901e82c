package azure

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// A panic in the SDK is an error without the panic's value.
func TestGuarded(t *testing.T) {
	t.Parallel()
	if err := Guarded(func() error { panic("the secret") }); !errors.Is(err, ErrPanic) || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v, want %v", err, ErrPanic)
	}
}

// Only the beginning of a refusal's message is kept, however long it is.
func TestRefusalsAreSmall(t *testing.T) {
	t.Parallel()
	filler := strings.Repeat("x", 500_000)
	response := func(body string) *http.Response {
		return &http.Response{StatusCode: http.StatusForbidden, Body: io.NopCloser(bytes.NewReader([]byte(body)))}
	}
	for name, answer := range map[string]*Answer{
		"vault": vaultAnswer(&azcore.ResponseError{StatusCode: http.StatusForbidden, RawResponse: response(
			`{"error":{"code":"Forbidden","message":"Operation get is not allowed on a disabled secret. ` + filler + `"}}`)}),
		"Entra ID":         LoginAnswer(Entra, response(`{"error":"invalid_client","error_description":"on a disabled `+filler+`"}`)),
		"metadata service": LoginAnswer(Metadata, response(`{"error":"invalid_request","error_description":"on a disabled `+filler+`"}`)),
	} {
		if len(answer.message) > messageBytes || !answer.Mentions("on a disabled ") || len(answer.Codes) != 1 {
			t.Errorf("%s: %d bytes of message, %v", name, len(answer.message), answer)
		}
	}
}

// When a call times out between two attempts, the answer to the first is reported, with the service
// that gave it.
func TestTheAnswerBeforeADeadline(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]Answer{
		MetadataHost:           {Service: Metadata, Status: http.StatusTooManyRequests},
		"shop.vault.azure.net": {Service: Vault, Status: http.StatusTooManyRequests},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host, nil)
		if err != nil {
			t.Fatal(err)
		}
		seen := &Attempt{throttle: NewThrottle(Vault, 1, time.Now, time.After, nil)}
		seen.record(req, &http.Response{StatusCode: http.StatusTooManyRequests}, nil)
		if answer, ok := errors.AsType[*Answer](Reduce(context.DeadlineExceeded, seen)); !ok || !reflect.DeepEqual(*answer, want) {
			t.Errorf("%s: %+v, want %+v", host, answer, want)
		}
	}
}

// Only what a vault says itself means that an object is absent, however it is encoded on the way.
func TestAbsent(t *testing.T) {
	t.Parallel()
	const absent = `{"error":{"code":"SecretNotFound","message":"A secret with (name/id) a was not found in this key vault."}}`
	compressed := func(text string) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write([]byte(text))
		_ = z.Close()
		return b.String()
	}
	for name, test := range map[string]struct {
		body, encoding string
		absent         bool
	}{
		"a vault":                    {absent, "", true},
		"gzip":                       {compressed(absent), "gzip", true},
		"gzip that is not announced": {compressed(absent), "", false},
		"announced, and not gzip":    {absent, "gzip", false},
		"another encoding":           {absent, "br", true}, // the body is valid JSON, so it is not encoded
		"cut":                        {absent[:60], "", false},
		"a page":                     {"<html>404</html>", "", false},
		"a page in gzip":             {compressed("<html>404</html>"), "gzip", false},
		"another code":               {`{"error":{"code":"ResourceNotFound","message":"no route"}}`, "", false},
		"another shape":              {`{"error":"SecretNotFound"}`, "", false},
		"a list":                     {`[{"error":{"code":"SecretNotFound"}}]`, "", false},
		"the code in a header alone": {"", "", false},
	} {
		s, address := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("x-ms-error-code", "SecretNotFound")
			if test.encoding != "" {
				w.Header().Set("Content-Encoding", test.encoding)
			}
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(test.body))
		})
		resp, err := get(t.Context(), t, s, address)
		if err != nil {
			t.Fatal(err)
		}
		answer, ok := errors.AsType[*Answer](Reduce(runtime.NewResponseError(resp), nil))
		_ = resp.Body.Close()
		if !ok || answer.Absent() != test.absent || answer.Unavailable() == test.absent {
			t.Errorf("%s: %v: absent %t, unavailable %t", name, answer, answer.Absent(), answer.Unavailable())
		}
	}
}

// A 401 without a body is a vault's if it has a readable challenge: those of 2016 had no body.
func TestChallengesWithoutABody(t *testing.T) {
	t.Parallel()
	for challenge, foreign := range map[string]bool{"tenant": false, "claims": false, "": true} {
		resp := &http.Response{
			StatusCode: http.StatusUnauthorized, Body: http.NoBody, Header: http.Header{ChallengeHeader: {challenge}},
			Request: &http.Request{URL: &url.URL{}},
		}
		answer, ok := errors.AsType[*Answer](Reduce(runtime.NewResponseError(resp), nil))
		if !ok || answer.Foreign() != foreign || answer.Unavailable() != foreign {
			t.Errorf("%q: %v", challenge, answer)
		}
	}
}

// An error that is neither an answer, a failure of the network nor an error of this program loses its text.
func TestReduceDropsUnknownTexts(t *testing.T) {
	t.Parallel()
	if err := Reduce(errors.New("the response had the secret"), nil); !errors.Is(err, ErrStrange) || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v, want %v", err, ErrStrange)
	}
}
