package hostile_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
)

// A hundred volumes at once, each as large as a pod can make it, and as large as the driver reads it: the YAML below becomes fifty
// times as large while it is parsed.
func TestManyLargeVolumes(t *testing.T) {
	t.Parallel()
	const mostMemory = 256 << 20 // half of what the chart gives the daemon
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
			s := newSite(t)
			many := strings.Repeat("- {a: b, c: d}\n", 10_900)
			objects := many + "#" + strings.Repeat("x", test.size-len(many)-1)
			ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
			defer cancel()
			var calls sync.WaitGroup
			for i := range 100 {
				request, err := s.Request(ctx, pod(fmt.Sprint("many", i), "objects", objects))
				if err != nil {
					t.Fatal(err)
				}
				conn := s.Conn(t) // the kubelet makes one for each call
				calls.Go(func() {
					defer func() { _ = conn.Close() }()
					began := time.Now()
					_, err := csi.NewNodeClient(conn).NodePublishVolume(ctx, request)
					s.judge(t, err, time.Since(began), test.code, test.text)
				})
			}
			calls.Wait()
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
