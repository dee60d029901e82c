package keyvault_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
)

// A 503 with Retry-After is handled like a 429, and counted as a 503.
func TestManagedIsThrottledWith503(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	w := newVM(t, func(o *keyvault.Options) { o.Metrics = registry })
	w.run()
	w.inject(devcloud.Fault{Service: devcloud.ServiceIMDS, Action: devcloud.Fail, Status: 503, RetryAfter: time.Second, Times: 1})
	w.fetch(managed(byClient))
	for _, line := range scrape(t, registry) {
		if strings.HasPrefix(line, "token_requests_total") && strings.Contains(line, "429") {
			t.Errorf("%s, but the service answered 503", line)
		}
	}
}
