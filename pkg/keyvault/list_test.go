package keyvault_test

import (
	"encoding/base64"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// A list that is throttled in the middle goes on where it was: the SDK's pager would give the same error for ever.
func TestAThrottledListGoesOn(t *testing.T) {
	t.Parallel()
	second := "$skiptoken=" + base64.RawURLEncoding.EncodeToString([]byte("app-25")) // as the dev cloud makes them, 25 to a page
	for name, page := range map[string]string{"first page": "", "second page": second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			want := map[string]string{}
			for i := range 60 {
				name := fmt.Sprintf("app-%02d", i)
				w.vault.SetSecret(name, name, devcloud.SecretOptions{})
				want[name] = name
			}
			w.vault.SetSecret("other", "x", devcloud.SecretOptions{})
			w.fetch(w.asServicePrincipal(secret("other"))) // so that the challenge is known
			w.ResetCounts()
			w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Path: "/secrets", Query: page, Action: devcloud.Throttle, RetryAfter: time.Second, Times: 1})
			if diff := cmp.Diff(want, w.fetch(w.asServicePrincipal(selection(volume.Selection{Prefix: "app-"})))); diff != "" {
				t.Error(diff)
			}
			pages := w.Count(devcloud.CountKey{Kind: "secrets/list", Status: 200})
			refused := w.Count(devcloud.CountKey{Kind: "secrets/list", Status: 429})
			if pages != 3 || refused != 1 {
				t.Errorf("%d pages and %d refusals, want 3 and 1", pages, refused)
			}
		})
	}
}
