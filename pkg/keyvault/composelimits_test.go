package keyvault_test

import (
	"fmt"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// What selections add to files of values is bounded like the lists of a volume.
func TestTooManySelectedEntries(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	for i := range volume.MaxEntries/2 + 1 {
		w.vault.SetSecret(fmt.Sprintf("s-%d", i), "x", devcloud.SecretOptions{})
	}
	w.fails(w.structured("[{json: a, from: [{secrets: {}}]}, {json: b, from: [{secrets: {}}]}]"), volume.ErrTooLarge,
		"objects[1].from[0] selects too many secrets, at most 4096 can be the entries of files; select fewer, by prefix or tags")
	if n := w.Count(devcloud.CountKey{Kind: "secrets/get", Status: 200}); n != 0 {
		t.Errorf("%d secrets were read", n)
	}
}
