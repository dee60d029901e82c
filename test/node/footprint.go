package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/internal/suite"
)

// Footprint is the resources of a daemon at one moment. Two of them, before and after, show a leak.
type Footprint struct {
	Goroutines  int // of the daemon, including those that serve /metrics
	Descriptors int // open files and sockets of the daemon, including that of the request to /metrics
	Mounts      int // below the node's folder, as this process sees them
	RSS         int // resident memory of the daemon in bytes, including shared memory
	Peak        int // the highest RSS since the daemon's start
}

// Footprint reads the daemon's metrics and /proc.
func (n *Node) Footprint(ctx context.Context) (f Footprint, err error) {
	code, metrics, err := n.Get(ctx, "/metrics")
	if err != nil {
		return f, err
	}
	if code != http.StatusOK {
		return f, fmt.Errorf("/metrics answered HTTP %d", code)
	}
	if f.Goroutines, err = number(metrics, "go_goroutines "); err != nil {
		return f, err
	}
	if f.Descriptors, err = number(metrics, "process_open_fds "); err != nil {
		return f, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.PID()))
	if err != nil {
		return f, err
	}
	kilobytes, err := number(string(status), "VmRSS:")
	if err != nil {
		return f, err
	}
	f.RSS = kilobytes << 10
	if kilobytes, err = number(string(status), "VmHWM:"); err != nil {
		return f, err
	}
	f.Peak = kilobytes << 10
	mounts, err := kubelet.Mounts(n.Dir)
	f.Mounts = len(mounts)
	return f, err
}

// AtRest is the median of several footprints of the idle daemon: the number of goroutines that serve /metrics varies, and the least
// of them may not be seen again on a busy machine.
func (n *Node) AtRest(t testing.TB) (rest Footprint) {
	t.Helper()
	again := time.NewTicker(25 * time.Millisecond)
	defer again.Stop()
	const samples = 21
	goroutines, descriptors := make([]int, 0, samples), make([]int, 0, samples)
	for range samples {
		rest = n.idle(t)
		goroutines, descriptors = append(goroutines, rest.Goroutines), append(descriptors, rest.Descriptors)
		<-again.C
	}
	slices.Sort(goroutines)
	slices.Sort(descriptors)
	rest.Goroutines, rest.Descriptors = goroutines[samples/2], descriptors[samples/2]
	return rest
}

// AwaitRest waits until the daemon has no more descriptors, goroutines and mounts than before, as counted by [Node.AtRest].
func (n *Node) AwaitRest(t testing.TB, before Footprint) (after Footprint) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("before %+v\nafter  %+v", before, after)
		}
	}()
	suite.Eventually(t, "the daemon holds no more than before", func() bool {
		after = n.idle(t)
		return after.Goroutines <= before.Goroutines && after.Descriptors <= before.Descriptors && after.Mounts <= before.Mounts
	})
	return after
}

// idle first closes the connections to the cloud, from its side. The daemon would keep them for minutes, and they would hide a leak of
// as many descriptors.
func (n *Node) idle(t testing.TB) Footprint {
	t.Helper()
	n.Cloud.Disconnect("")
	f, err := n.Footprint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Metric reads a metric of the daemon that has no labels.
func (n *Node) Metric(ctx context.Context, name string) (float64, error) {
	code, page, err := n.Get(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	if code != http.StatusOK {
		return 0, fmt.Errorf("/metrics answered HTTP %d", code)
	}
	for line := range strings.Lines(page) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}

// number returns the number behind prefix, which begins a line.
func number(text, prefix string) (int, error) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			v, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return int(v), err
		}
	}
	return 0, fmt.Errorf("no line %q", prefix)
}

// Get fetches a page of the daemon's HTTP endpoint, such as "/metrics". It tries again once if the daemon ends the connection, which it does
// if the request takes five seconds to come.
func (n *Node) Get(ctx context.Context, path string) (code int, body string, err error) {
	if code, body, err = n.get(ctx, path); errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		code, body, err = n.get(ctx, path)
	}
	return code, body, err
}

func (n *Node) get(ctx context.Context, path string) (code int, body string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, n.HTTP+path, nil)
	if err != nil {
		return 0, "", err
	}
	// A connection that is kept would be a descriptor and goroutines of the daemon.
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = response.Body.Close() }()
	var b bytes.Buffer
	_, err = b.ReadFrom(response.Body)
	return response.StatusCode, b.String(), err
}
