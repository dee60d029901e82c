package main

import (
	"context"
	"fmt"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// throttledStart is a start of many pods of several identities at once, each with its own secrets, at a vault that refuses requests above
// a limit in each window.
type throttledStart struct {
	identities, pods, secrets int
	limit                     int
	window                    time.Duration
	// underWay is how long a request may take from the daemon to the cloud, when both wait for the CPU. A request that arrives within
	// this time after a refusal may have been sent before the daemon had the refusal.
	underWay time.Duration
}

func (c throttledStart) requests() int { return c.identities * c.pods * c.secrets }

// ideal is the start time of the last pod if the daemon knew the limit of the vault: all windows but the last, and the time of the remaining
// requests without a limit.
func (c throttledStart) ideal(unlimited time.Duration) time.Duration {
	full := (c.requests() - 1) / c.limit
	rest := c.requests() - full*c.limit
	return time.Duration(full)*c.window + time.Duration(float64(unlimited)*float64(rest)/float64(c.requests()))
}

// throttled measures a start at a vault that throttles, and the same start at a vault that does not.
func (b *bench) throttled(ctx context.Context) error {
	unlimited, err := b.startThrottled(ctx, devcloud.Fault{Action: devcloud.Delay}) // by nothing
	if err != nil {
		return err
	}
	limited, err := b.startThrottled(ctx, devcloud.Fault{
		Action: devcloud.Throttle, Service: devcloud.ServiceVault, Limit: b.throttle.limit, Window: b.throttle.window,
	})
	if err != nil {
		return err
	}
	ideal := b.throttle.ideal(unlimited.took)
	t := newTable("until the last pod is up", "s", "vault requests", "of these 429", "token req.", "calls that failed", "on their way", "too early")
	for _, row := range []struct {
		name string
		start
	}{{"no limit", unlimited}, {"with the limit", limited}} {
		t.add(row.name, fmt.Sprintf("%.2f", row.took.Seconds()), fmt.Sprint(row.vault), fmt.Sprint(row.refused), fmt.Sprint(row.token),
			fmt.Sprint(row.failed), fmt.Sprint(row.underWay), fmt.Sprint(row.early))
	}
	c := b.throttle
	t.add("ideal with the limit", fmt.Sprintf("%.2f", ideal.Seconds()))
	t.write(b.out, fmt.Sprintf("A throttled start: %d pods of each of %d identities, %d secrets of its own each, %d requests in %s",
		c.pods, c.identities, c.secrets, c.limit, c.window),
		"ideal: every window but the last has passed, and the rest of the requests took as long as without a limit;",
		fmt.Sprintf("on their way: sent when the vault refused, and received up to %s later; too early: received between then and the end of", c.underWay),
		"its Retry-After; calls that failed were made again, as the kubelet does, after 0.5, 1, 2 … s")
	if limited.refused == 0 {
		b.goals[goalThrottled] = result{open: true, measured: fmt.Sprintf("never throttled: this machine sent only %d requests in %.1f s",
			limited.vault, limited.took.Seconds())}
		return nil
	}
	b.goals.record(goalThrottled, limited.took <= 2*ideal && limited.early == 0,
		"%.2f × (%.1f s, ideal %.1f s); %d too early, %d were refused", limited.took.Seconds()/ideal.Seconds(),
		limited.took.Seconds(), ideal.Seconds(), limited.early, limited.refused)
	return nil
}

// start is the result of a throttledStart.
type start struct {
	requests
	took            time.Duration
	failed          int // calls
	refused         int // requests to the vault, with 429
	underWay, early int // requests to the vault after a refusal
}

// startThrottled starts a new daemon, and all pods at once.
func (b *bench) startThrottled(ctx context.Context, f devcloud.Fault) (s start, err error) {
	n, err := startNode(ctx)
	if err != nil {
		return s, err
	}
	defer n.Close()
	c := b.throttle
	setSecrets(n, c.pods*c.secrets, 'a')
	if _, err := n.Cloud.Inject(f); err != nil {
		return s, err
	}
	accounts, err := newAccounts(n, c.identities)
	if err != nil {
		return s, err
	}
	var pods []*pod
	for i := range c.pods * c.identities {
		p, err := newPodOf(ctx, n, accounts[i%c.identities], fmt.Sprint("throttled-", i), secretsFrom(i/c.identities*c.secrets, c.secrets))
		if err != nil {
			return s, err
		}
		pods = append(pods, p)
	}
	closeAll, err := connect(n, pods)
	if err != nil {
		return s, err
	}
	defer closeAll()
	n.Cloud.ResetCounts()
	started, failures := time.Now(), make(chan int, len(pods))
	err = each(ctx, pods, len(pods), func(p *pod, ctx context.Context) error {
		failed, err := p.publishUntilUp(ctx)
		failures <- failed
		return err
	})
	s.took = time.Since(started)
	if err != nil {
		return s, err
	}
	for range pods {
		s.failed += <-failures
	}
	s.requests = requestsOf(n.Cloud)
	s.refused, s.underWay, s.early = earlyRequests(n.Cloud.Requests(), c.underWay)
	return s, nil
}

// connect distributes the pods to several connections, because the daemon limits the calls on each. The kubelet makes a connection for
// each call.
func connect(n *node.Node, pods []*pod) (closeAll func(), err error) {
	const callsPerConnection = 200
	var conns []*grpc.ClientConn
	closeAll = func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}
	for i, p := range pods {
		if i%callsPerConnection == 0 {
			c, err := grpc.NewClient("unix://"+n.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				closeAll()
				return nil, err
			}
			c.Connect()
			conns = append(conns, c)
		}
		p.driver = csi.NewNodeClient(conns[len(conns)-1])
	}
	return closeAll, nil
}

// publishUntilUp calls as the kubelet does, with a timeout of two minutes and growing pauses after failures. It returns the number of failed
// calls.
func (p *pod) publishUntilUp(ctx context.Context) (failed int, err error) {
	const firstPause, lastPause, callTimeout = 500 * time.Millisecond, 2*time.Minute + 2*time.Second, 2 * time.Minute
	for wait := firstPause; ; wait = min(2*wait, lastPause) {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		_, err = p.driver.NodePublishVolume(call, p.request)
		cancel()
		if err == nil {
			return failed, nil
		}
		if code := status.Code(err); code != codes.Unavailable && code != codes.DeadlineExceeded || ctx.Err() != nil {
			return failed, fmt.Errorf("publish: %w", err)
		}
		failed++
		if err := pause(ctx, wait); err != nil {
			return failed, err
		}
	}
}

// earlyRequests counts the requests that a vault has refused with a Retry-After, and those that it received after a refusal and before the
// Retry-After was over.
func earlyRequests(all []devcloud.Request, underWay time.Duration) (refused, sent, early int) {
	var refusals []devcloud.Request
	for _, r := range all {
		if r.Service == devcloud.ServiceVault && r.RetryAfter > 0 && !r.Answered.IsZero() {
			refusals = append(refusals, r)
		}
	}
	for _, r := range all {
		if r.Service != devcloud.ServiceVault {
			continue
		}
		soonest := time.Duration(-1)
		for _, refusal := range refusals {
			after := r.Time.Sub(refusal.Answered)
			if after <= 0 || after >= refusal.RetryAfter {
				continue
			}
			soonest = max(soonest, after)
		}
		switch {
		case soonest > underWay:
			early++
		case soonest > 0:
			sent++
		}
	}
	return len(refusals), sent, early
}
