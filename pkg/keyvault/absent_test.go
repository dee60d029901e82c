package keyvault_test

import (
	"errors"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// An optional object that was absent does not prevent a first mount while the vault cannot be reached. Like a value, the
// absence can be too old for that. A volume that requires the object is not mounted.
func TestLastKnownAbsence(t *testing.T) {
	t.Parallel()
	w := newFixture(t, func(o *keyvault.Options) { o.LastKnownGood = time.Hour })
	w.vault.SetSecret("a", "seen", devcloud.SecretOptions{})
	absent := secret("absent")
	absent.Optional = true
	optional, required := w.asServicePrincipal(secret("a"), absent), w.asServicePrincipal(secret("a"), secret("absent"))
	before := w.now()
	w.fetch(first("one", optional))
	w.inject(devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Reset})
	for i, step := range []struct {
		pass time.Duration
		err  error
	}{{time.Minute, nil}, {time.Minute, nil}, {57 * time.Minute, nil}, {time.Minute, volume.ErrUnavailable}} {
		w.later(step.pass)
		content, err := w.client.Fetch(t.Context(), first("two", optional))
		if !errors.Is(err, step.err) {
			t.Fatalf("step %d: %v, want %v", i, err, step.err)
		}
		if err == nil && (len(content.Files) != 1 || content.Outage == nil || !content.Fetched.Equal(before)) {
			t.Errorf("step %d: %d files of %v, outage %v", i, len(content.Files), content.Fetched, content.Outage)
		}
		if _, err := w.client.Fetch(t.Context(), first("three", required)); !errors.Is(err, volume.ErrUnavailable) {
			t.Errorf("step %d: the object is required: %v", i, err)
		}
	}
}
