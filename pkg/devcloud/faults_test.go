package devcloud_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

func inject(t *testing.T, cloud *devcloud.Cloud, f devcloud.Fault) (stop func()) {
	t.Helper()
	stop, err := cloud.Inject(f)
	if err != nil {
		t.Fatal(err)
	}
	return stop
}

func TestFaultsThroughTheSDK(t *testing.T) {
	t.Parallel()
	cloud, vault := newCloud(t, devcloud.Options{})
	vault.SetSecret("a", "fine", devcloud.SecretOptions{})
	vault.SetSecret("b", "fine", devcloud.SecretOptions{})
	client := defaultClient(t, cloud, vault)
	ask := func(name string) error {
		_, err := client.GetSecret(t.Context(), name, "", nil)
		return err
	}
	if err := ask("a"); err != nil {
		t.Fatal(err)
	}

	inject(t, cloud, devcloud.Fault{Action: devcloud.Throttle, Service: devcloud.ServiceVault, Host: "shop", Path: "/Secrets/A", Times: 2, RetryAfter: 1500 * time.Millisecond})
	for range 2 {
		err := ask("a")
		if got := refusalOf(t, err); got != (vaultError{429, "Throttled", "", "Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached"}) {
			t.Errorf("%+v", got)
		}
		var response *azcore.ResponseError
		if errors.As(err, &response); response.RawResponse.Header.Get("Retry-After") != "2" {
			t.Errorf("%v", response.RawResponse.Header)
		}
		if err := ask("b"); err != nil {
			t.Errorf("another path: %v", err)
		}
	}
	if err := ask("a"); err != nil {
		t.Errorf("after two: %v", err)
	}

	stop := inject(t, cloud, devcloud.Fault{Action: devcloud.Throttle})
	var response *azcore.ResponseError
	if err := ask("a"); !errors.As(err, &response) || response.RawResponse.Header.Get("Retry-After") != "" {
		t.Errorf("%v", err)
	}
	stop()
	stop()
	if err := ask("a"); err != nil {
		t.Errorf("after the end of the fault: %v", err)
	}

	for _, test := range []struct {
		fault devcloud.Fault
		want  string // in the text of the error
	}{
		{devcloud.Fault{Action: devcloud.Fail, Status: 500}, "InternalServerError"},
		{devcloud.Fault{Action: devcloud.Fail}, "ServiceUnavailable"},
		{devcloud.Fault{Action: devcloud.Malformed}, "unexpected end of JSON input"},
		{devcloud.Fault{Action: devcloud.Malformed, Text: "<html>"}, "invalid character '<'"},
		{devcloud.Fault{Action: devcloud.Challenge}, "AKV10000"},
		{devcloud.Fault{Action: devcloud.Challenge, Text: `Bearer authorization="https://login.microsoftonline.com/t"`}, "could not find a valid resource"},
		{devcloud.Fault{Action: devcloud.Cut, After: 10}, "stream error"},
		{devcloud.Fault{Action: devcloud.Reset}, ""},
	} {
		stop := inject(t, cloud, test.fault)
		if err := ask("a"); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", test.fault.Action, err)
		}
		stop()
		if err := ask("a"); err != nil {
			t.Errorf("after %s: %v", test.fault.Action, err)
		}
	}
	if _, err := cloud.Inject(devcloud.Fault{Action: "explode"}); err == nil {
		t.Error("an unknown action is taken")
	}
}

func TestFaultsOfTheLogin(t *testing.T) {
	t.Parallel()
	cloud, vault := newCloud(t, devcloud.Options{})
	vault.SetSecret("a", "fine", devcloud.SecretOptions{})
	inject(t, cloud, devcloud.Fault{Action: devcloud.Fail, Service: devcloud.ServiceLogin, Path: "/" + tenant + "/oauth2", Times: 1})
	client := defaultClient(t, cloud, vault)
	if _, err := client.GetSecret(t.Context(), "a", "", nil); err == nil || !strings.Contains(err.Error(), "AADSTS90033") {
		t.Errorf("%v", err)
	}
	if _, err := client.GetSecret(t.Context(), "a", "", nil); err != nil {
		t.Errorf("%v", err)
	}
	if n := cloud.Count(devcloud.CountKey{Kind: "token", Status: 503}); n != 1 {
		t.Errorf("%d failed", n)
	}
}

// Over HTTP/1.1, like curl or an old client.
func TestConnectionFaults(t *testing.T) {
	t.Parallel()
	cloud, vault := newCloud(t, devcloud.Options{})
	client := cloud.HTTPClient()
	t.Cleanup(client.CloseIdleConnections)
	transport, _ := client.Transport.(*http.Transport)
	transport.ForceAttemptHTTP2 = false
	ask := func() (string, error) {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, vault.URL()+"/secrets/a", nil) // a GET would be repeated
		resp, err := client.Do(r)
		if err != nil {
			return "", err
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		return string(body), err
	}
	stop := inject(t, cloud, devcloud.Fault{Action: devcloud.Cut, After: 8})
	if body, err := ask(); body != `{"error"` || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut: %q %v", body, err)
	}
	stop()
	stop = inject(t, cloud, devcloud.Fault{Action: devcloud.Reset})
	if _, err := ask(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("reset: %v", err)
	}
	stop()
	if n := cloud.Count(devcloud.CountKey{Service: devcloud.ServiceVault}); n != 2 {
		t.Errorf("%d requests", n)
	}
	if got := cloud.Requests()[0]; got.Proto != "HTTP/1.1" {
		t.Errorf("%+v", got)
	}
}

// Hanging requests end with their client, with the fault and with the cloud.
func TestHang(t *testing.T) {
	t.Parallel()
	cloud, vault := newCloud(t, devcloud.Options{})
	client := cloud.HTTPClient()
	t.Cleanup(client.CloseIdleConnections)
	var asking sync.WaitGroup
	ask := func(ctx context.Context) <-chan error {
		failed := make(chan error, 1)
		asking.Go(func() {
			r, _ := http.NewRequestWithContext(ctx, http.MethodPost, vault.URL()+"/secrets/a", nil)
			resp, err := client.Do(r)
			if err == nil {
				_ = resp.Body.Close()
			}
			failed <- err
		})
		return failed
	}
	hanging := devcloud.CountKey{Service: devcloud.ServiceVault}

	stop := inject(t, cloud, devcloud.Fault{Action: devcloud.Hang})
	ctx, cancel := context.WithCancel(t.Context())
	first, second := ask(ctx), ask(t.Context())
	if err := cloud.Wait(t.Context(), hanging, 2); err != nil {
		t.Fatal(err)
	}
	for key, n := range cloud.Counts() {
		if key.Service == devcloud.ServiceVault && (key.Status != 0 || n != 2) {
			t.Errorf("%+v: %d", key, n)
		}
	}
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	stop()
	if err := <-second; err == nil {
		t.Error("an answer after a hang")
	}

	inject(t, cloud, devcloud.Fault{Action: devcloud.Hang})
	inject(t, cloud, devcloud.Fault{Action: devcloud.Throttle}) // after the first, so that it never applies
	third := ask(t.Context())
	if err := cloud.Wait(t.Context(), hanging, 3); err != nil {
		t.Fatal(err)
	}
	cloud.Close()
	if err := <-third; err == nil {
		t.Error("an answer after the end")
	}
	asking.Wait()
	if err := cloud.Wait(t.Context(), hanging, 4); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for a closed cloud: %v", err)
	}
	cloud.Close()
}

func TestDelay(t *testing.T) {
	t.Parallel()
	cloud, vault := newCloud(t, devcloud.Options{})
	client := cloud.HTTPClient()
	t.Cleanup(client.CloseIdleConnections)
	const delay = 30 * time.Millisecond
	inject(t, cloud, devcloud.Fault{Action: devcloud.Delay, Service: devcloud.ServiceVault, Delay: delay})
	start := time.Now()
	if status, _, _ := get(t, client, http.MethodGet, vault.URL()+"/secrets/a", nil); status != http.StatusUnauthorized {
		t.Errorf("%d", status)
	}
	if took := time.Since(start); took < delay {
		t.Errorf("answered after %v", took)
	}
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	if _, err := devcloud.Start(t.Context(), devcloud.Options{AdminListen: "nowhere:x"}); err == nil {
		t.Error("a bad address is taken")
	}
	if _, err := devcloud.Start(t.Context(), devcloud.Options{CustomLoginHost: "login.example"}); err == nil {
		t.Error("half a cloud is taken")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cloud, err := devcloud.Start(ctx, devcloud.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	cloud.Close() // returns, because the end of ctx ends the cloud
}
