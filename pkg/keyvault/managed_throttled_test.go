package keyvault_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault"
)

func TestManagedIsThrottledWith503(t *testing.T) {
	registry := prometheus.NewRegistry()
	w := newVM(t, func(o *keyvault.Options) { o.Metrics = registry })
	w.inject(devcloud.Fault{Service: devcloud.ServiceIMDS, Action: devcloud.Fail, Status: 503, RetryAfter: time.Second, Times: 1})
	began := time.Now()
	w.fetch(managed(byClient))
	t.Log(time.Since(began))
	for _, line := range scrape(t, registry) {
		if strings.HasPrefix(line, "token_requests_total") {
			t.Log(line)
			if strings.Contains(line, "429") {
				t.Error("nobody answered 429")
			}
		}
	}
}
