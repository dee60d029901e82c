package syncer_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/api"
	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/secret"
)

// oneAway is an API server that cannot read one Secret, such as one that was encrypted with a key that is lost: it answers 500.
type oneAway struct {
	*server

	name string
}

func (s oneAway) Get(ctx context.Context, name string) (*secret.Secret, error) {
	if name == s.name {
		return nil, api.ErrAway
	}
	return s.server.Get(ctx, name)
}

// A Secret that the API server cannot read delays none of the others, wherever it is in the list.
func TestOneThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a", "b", "c"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &server{}
				startOn(t, s, oneAway{s, name}, "secrets: [{name: a, data: {key: file}}, {name: b, data: {key: file}}, {name: c, data: {key: file}}]")
				pass(s, 60)
				if _, writes := s.count(); writes != 2 {
					t.Errorf("%d of the two others were written", writes)
				}
			})
		})
	}
}
