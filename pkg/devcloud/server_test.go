package devcloud_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

func TestServerCertificates(t *testing.T) {
	t.Parallel()
	cloud, vault := newCloud(t, devcloud.Options{})
	ask := func() error {
		client := cloud.HTTPClient()
		defer client.CloseIdleConnections()
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, vault.URL()+"/secrets/a", nil)
		resp, err := client.Do(r)
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	}
	for _, shows := range []devcloud.ServerCertificate{
		devcloud.UntrustedCertificate, devcloud.ForeignCertificate, devcloud.ExpiredCertificate, devcloud.EarlyCertificate,
	} {
		if err := vault.SetServerCertificate(shows); err != nil {
			t.Fatal(err)
		}
		err := ask()
		if _, refused := errors.AsType[*tls.CertificateVerificationError](err); !refused {
			t.Errorf("%s: %v", shows, err)
			continue
		}
		var unknown x509.UnknownAuthorityError
		var host x509.HostnameError
		var invalid x509.CertificateInvalidError
		switch {
		case errors.As(err, &unknown):
			if shows != devcloud.UntrustedCertificate {
				t.Errorf("%s: %v", shows, err)
			}
		case errors.As(err, &host):
			if shows != devcloud.ForeignCertificate {
				t.Errorf("%s: %v", shows, err)
			}
		case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
			if shows != devcloud.ExpiredCertificate && shows != devcloud.EarlyCertificate {
				t.Errorf("%s: %v", shows, err)
			}
		default:
			t.Errorf("%s: %v", shows, err)
		}
	}
	if err := vault.SetServerCertificate(devcloud.ProperCertificate); err != nil {
		t.Fatal(err)
	}
	if err := ask(); err != nil {
		t.Errorf("with its own certificate again: %v", err)
	}
	if err := vault.SetServerCertificate("none"); err == nil {
		t.Error("an unknown certificate is taken")
	}
}

// A vault whose clock is wrong refuses fresh tokens as expired, or as not yet valid.
func TestTheClockOfAVault(t *testing.T) {
	t.Parallel()
	cloud, vault := newCloud(t, devcloud.Options{})
	vault.SetSecret("a", "fine", devcloud.SecretOptions{})
	client := defaultClient(t, cloud, vault)
	for _, step := range []struct {
		ahead time.Duration
		text  string
	}{
		{2 * time.Hour, "[TokenExpired] Error validating token: 'S2S12086'."},
		{-2 * time.Hour, "[BearerReadAccessTokenFailed] Error parsing or validating the token."},
		{0, ""},
	} {
		vault.SetClock(step.ahead)
		_, err := client.GetSecret(t.Context(), "a", "", nil)
		if step.text == "" {
			if err != nil {
				t.Errorf("with a right clock: %v", err)
			}
			continue
		}
		if got := refusalOf(t, err); got != (vaultError{401, "Unauthorized", "", step.text}) {
			t.Errorf("%v ahead: %+v", step.ahead, got)
		}
	}
}

func TestBodiesWithoutAnEnd(t *testing.T) {
	t.Parallel()
	cloud, vault := newCloud(t, devcloud.Options{})
	client := cloud.HTTPClient()
	t.Cleanup(client.CloseIdleConnections)
	ask := func(ctx context.Context) (*http.Response, error) {
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, vault.URL()+"/secrets/a", nil)
		return client.Do(r)
	}
	inject(t, cloud, devcloud.Fault{Action: devcloud.Endless, Times: 1})
	resp, err := ask(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.CopyN(io.Discard, resp.Body, 8<<20); err != nil {
		t.Errorf("the body ended after %d bytes: %v", n, err)
	}
	_ = resp.Body.Close()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stop := inject(t, cloud, devcloud.Fault{Action: devcloud.Stall, After: 8, Times: 1})
	if resp, err = ask(ctx); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 8)
	if _, err := io.ReadFull(resp.Body, head); err != nil || string(head) != `{"error"` {
		t.Errorf("%q %v", head, err)
	}
	stop()
	if rest, err := io.ReadAll(resp.Body); err == nil || len(rest) != 0 {
		t.Errorf("after the stall: %q %v", rest, err)
	}
	_ = resp.Body.Close()

	inject(t, cloud, devcloud.Fault{Action: devcloud.Malformed, Text: "<html>", ContentType: "text/html", Times: 1})
	if resp, err = ask(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Get("Content-Type"); got != "text/html" {
		t.Errorf("the content type is %q", got)
	}
	_ = resp.Body.Close()
}

// Only faults that name the proxy apply to CONNECT, not faults without a service.
func TestFaultsOfTheProxy(t *testing.T) {
	t.Parallel()
	cloud, vault := newCloud(t, devcloud.Options{})
	ask := func(fault devcloud.Action) error {
		client := cloud.HTTPClient()
		defer client.CloseIdleConnections()
		patience := suite.Patience
		if fault == devcloud.Hang {
			patience = 500 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, vault.URL()+"/secrets/a", nil)
		resp, err := client.Do(r)
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	}
	for _, test := range []struct {
		fault devcloud.Fault
		want  string // in the error
	}{
		{devcloud.Fault{Action: devcloud.Fail, Status: http.StatusProxyAuthRequired}, "Proxy Authentication Required"},
		{devcloud.Fault{Action: devcloud.Throttle}, "Too Many Requests"},
		{devcloud.Fault{Action: devcloud.Hang}, "deadline exceeded"},
		{devcloud.Fault{Action: devcloud.Reset}, "reset by peer"},
	} {
		test.fault.Service, test.fault.Host = devcloud.ServiceProxy, "shop"
		stop := inject(t, cloud, test.fault)
		if err := ask(test.fault.Action); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", test.fault.Action, err)
		}
		stop()
		if err := ask(""); err != nil {
			t.Errorf("after %s: %v", test.fault.Action, err)
		}
	}
	inject(t, cloud, devcloud.Fault{Action: devcloud.Fail})
	if err := ask(""); err != nil {
		t.Errorf("a fault of all services: %v", err)
	}
	if _, err := cloud.Inject(devcloud.Fault{Service: devcloud.ServiceProxy, Action: devcloud.Malformed}); err == nil {
		t.Error("a proxy has no body")
	}
}

func TestDisconnect(t *testing.T) {
	t.Parallel()
	cloud, vault := newCloud(t, devcloud.Options{})
	client := cloud.HTTPClient()
	t.Cleanup(client.CloseIdleConnections)
	connects := func() int { return cloud.Count(devcloud.CountKey{Service: devcloud.ServiceProxy}) }
	ask := func() {
		t.Helper()
		if status, _, _ := get(t, client, http.MethodGet, vault.URL()+"/secrets/a", nil); status != http.StatusUnauthorized {
			t.Errorf("HTTP %d", status)
		}
	}
	ask()
	ask()
	if n := connects(); n != 1 {
		t.Fatalf("%d connections for two requests", n)
	}
	cloud.Disconnect("other.vault.azure.net")
	ask()
	if n := connects(); n != 1 {
		t.Errorf("the end of others made %d connections", n)
	}
	for _, host := range []string{"SHOP.vault.azure.net", ""} {
		before := connects()
		cloud.Disconnect(host)
		// The client may send requests on the old connection until it knows that it is closed.
		for range 100 {
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, vault.URL()+"/secrets/a", nil)
			if resp, err := client.Do(r); err == nil {
				_ = resp.Body.Close()
			}
			if connects() > before {
				break
			}
		}
		ask()
		if n := connects(); n != before+1 {
			t.Errorf("%d connections after %q, want %d", n, host, before+1)
		}
	}
}
