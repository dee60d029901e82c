package hostile_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// A hundred volumes at once, each as large as a pod can make it, and as large as the driver reads it. The YAML needs fifty times its
// size while it is parsed.
func TestManyLargeVolumes(t *testing.T) {
	t.Parallel()
	const (
		// A call is received before it can be refused, so this is more than the 64 MiB of test/tenants, with fewer calls at once.
		mostMemory = 128 << 20
		tooMany    = "too many large volumes of the namespace are mounted or refreshed at the same time; the kubelet tries again"
	)
	for name, test := range map[string]struct {
		size int
		code codes.Code
		text string
	}{
		"as large as a pod":   {1 << 20, codes.ResourceExhausted, "grpc: received message larger than max *"},
		"as large as is read": {255 << 10, codes.InvalidArgument, "objects: has more than 4096 entries"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newFixture(t)
			many := strings.Repeat("- {a: b, c: d}\n", 10_900)
			objects := many + "#" + strings.Repeat("x", test.size-len(many)-1)
			ctx := suite.Context(t)
			var calls sync.WaitGroup
			var judged atomic.Int64
			for i := range 100 {
				request, err := s.Request(ctx, node.Volume(fmt.Sprint("many", i), "objects", objects))
				if err != nil {
					t.Fatal(err)
				}
				conn := s.Conn(t) // like the kubelet, one for each call
				calls.Go(func() {
					defer func() { _ = conn.Close() }()
					_, err := csi.NewNodeClient(conn).NodePublishVolume(ctx, request)
					if status.Convert(err).Message() == tooMany { // because of the other calls
						s.check(t, err, codes.ResourceExhausted, tooMany)
						return
					}
					judged.Add(1)
					s.check(t, err, test.code, test.text)
				})
			}
			calls.Wait()
			if judged.Load() == 0 {
				t.Error("all calls were refused because of the others")
			}
			peak := s.footprint(t).Peak
			t.Logf("at most %d MiB", peak>>20)
			if peak > mostMemory {
				t.Errorf("the daemon held %d MiB", peak>>20)
			}
			s.peak = max(s.peak, peak)
			s.verdict(t, "a hundred volumes at once, "+name)
		})
	}
}
