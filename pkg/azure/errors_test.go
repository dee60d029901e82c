package azure

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
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
		seen := &Attempt{throttle: NewThrottle(Vault, 1, time.Now, time.After)}
		seen.record(req, &http.Response{StatusCode: http.StatusTooManyRequests}, nil)
		if answer, ok := errors.AsType[*Answer](Reduce(context.DeadlineExceeded, seen)); !ok || !reflect.DeepEqual(*answer, want) {
			t.Errorf("%s: %+v, want %+v", host, answer, want)
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
