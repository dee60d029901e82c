package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Drivers that accept a connection and never answer hold up the others for a moment only.
func TestStatusWithDriversThatHang(t *testing.T) {
	t.Parallel()
	const nodes, timeout = 80, 12 * time.Second // enough for those that answer, also on a busy machine
	f := newShop(t)
	for i := range nodes {
		node := fmt.Sprintf("hung-%d", i)
		f.pods = append(f.pods, driverPod(node, node), appPod("shop", "on-"+node, node, "Running", secretsVolume()))
		f.ports["keyvault-csi/"+node] = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-t.Context().Done() })
	}
	config := f.start(t)
	begin := time.Now()
	_, stdout, stderr := kube(t, config, "status", "--request-timeout", timeout.String())
	if took := time.Since(begin); took > 3*timeout { // one after the other: 5 × timeout
		t.Errorf("it took %v", took)
	}
	if !strings.Contains(stdout, "fresh-6c9f7b-x2x4z   secrets   fresh") {
		t.Errorf("the drivers that answer are not shown:\n%s", stdout)
	}
	if lines := strings.Count(stderr, "the driver there does not answer"); lines != nodes {
		t.Errorf("%d drivers are said not to answer:\n%s", lines, stderr)
	}
}
