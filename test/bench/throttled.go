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

// crowd is a throttled start: so many pods of each identity at once, each with secrets that none of its identity shares, at a
// vault that answers so many requests in each window and refuses the others.
type crowd struct {
	identities, pods, secrets int
	limit                     int
	window                    time.Duration
	// underWay is how long a request may take from the daemon to the cloud, on a machine where both have to wait for the
	// CPU: one that arrives so long after a refusal was sent before the daemon could know of it.
	underWay time.Duration
}

func (c crowd) requests() int { return c.identities * c.pods * c.secrets }

// ideal is when the last pod of a node would be up that knew the vault's limit beforehand: all windows but the last one have
// to pass, and in that one it needs the time that the rest of the requests take without a limit.
func (c crowd) ideal(unlimited time.Duration) time.Duration {
	full := (c.requests() - 1) / c.limit
	rest := c.requests() - full*c.limit
	return time.Duration(full)*c.window + time.Duration(float64(unlimited)*float64(rest)/float64(c.requests()))
}

// throttled measures a start at a vault that throttles, beside the same one at a vault that does not.
func (b *bench) throttled(ctx context.Context) error {
	unlimited, err := b.startCrowd(ctx, devcloud.Fault{Action: devcloud.Delay}) // of no time
	if err != nil {
		return err
	}
	limited, err := b.startCrowd(ctx, devcloud.Fault{
		Action: devcloud.Throttle, Service: devcloud.ServiceVault, Limit: b.crowd.limit, Window: b.crowd.window,
	})
	if err != nil {
		return err
	}
	ideal := b.crowd.ideal(unlimited.took)
	t := newTable("until the last pod is up", "s", "vault requests", "of these 429", "token req.", "calls that failed", "on their way", "too early")
	for _, row := range []struct {
		name string
		start
	}{{"no limit", unlimited}, {"with the limit", limited}} {
		t.add(row.name, fmt.Sprintf("%.2f", row.took.Seconds()), fmt.Sprint(row.vault), fmt.Sprint(row.refused), fmt.Sprint(row.token),
			fmt.Sprint(row.failed), fmt.Sprint(row.underWay), fmt.Sprint(row.early))
	}
	c := b.crowd
	t.add("ideal with the limit", fmt.Sprintf("%.2f", ideal.Seconds()))
	t.write(b.out, fmt.Sprintf("A throttled start: %d pods of each of %d identities, %d secrets of its own each, %d requests in %s",
		c.pods, c.identities, c.secrets, c.limit, c.window),
		"ideal: every window but the last has passed, and the rest of the requests took as long as without a limit;",
		fmt.Sprintf("on their way: sent when the vault refused, and received up to %s later; too early: received between then and the end of", c.underWay),
		"its Retry-After; calls that failed were made again, as the kubelet does, after 0.5, 1, 2 … s")
	if limited.refused == 0 {
		b.goals[goalThrottled] = verdict{open: true, measured: fmt.Sprintf("never throttled: this machine sent only %d requests in %.1f s",
			limited.vault, limited.took.Seconds())}
		return nil
	}
	b.goals.judge(goalThrottled, limited.took <= 2*ideal && limited.early == 0,
		"%.2f × (%.1f s, ideal %.1f s); %d too early, %d were refused", limited.took.Seconds()/ideal.Seconds(),
		limited.took.Seconds(), ideal.Seconds(), limited.early, limited.refused)
	return nil
}

// start is how a crowd came up.
type start struct {
	requests
	took            time.Duration
	failed          int // calls
	refused         int // requests to the vault, with 429
	underWay, early int // requests to the vault after a refusal
}

// startCrowd starts a new daemon, and all pods at once.
func (b *bench) startCrowd(ctx context.Context, f devcloud.Fault) (s start, err error) {
	n, err := startNode(ctx)
	if err != nil {
		return s, err
	}
	defer n.Close()
	c := b.crowd
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
		p, err := newPodOf(ctx, n, accounts[i%c.identities], fmt.Sprint("crowd-", i), secretsFrom(i/c.identities*c.secrets, c.secrets))
		if err != nil {
			return s, err
		}
		pods = append(pods, p)
	}
	hangUp, err := connect(n, pods)
	if err != nil {
		return s, err
	}
	defer hangUp()
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
	s.refused, s.underWay, s.early = politeness(n.Cloud.Requests(), c.underWay)
	return s, nil
}

// connect spreads the pods over several connections, since the daemon serves a bounded number of calls on each. The kubelet
// makes a connection for each call.
func connect(n *node.Node, pods []*pod) (hangUp func(), err error) {
	const callsPerConnection = 200
	var conns []*grpc.ClientConn
	hangUp = func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}
	for i, p := range pods {
		if i%callsPerConnection == 0 {
			c, err := grpc.NewClient("unix://"+n.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				hangUp()
				return nil, err
			}
			c.Connect()
			conns = append(conns, c)
		}
		p.driver = csi.NewNodeClient(conns[len(conns)-1])
	}
	return hangUp, nil
}

// publishUntilUp calls as the kubelet does: up to two minutes for each call, and after a failure again, later each time. It
// gives the number of calls that failed.
func (p *pod) publishUntilUp(ctx context.Context) (failed int, err error) {
	const firstPause, lastPause, callTimeout = 500 * time.Millisecond, 2*time.Minute + 2*time.Second, 2 * time.Minute
	for wait := firstPause; ; wait = min(2*wait, lastPause) {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		_, err = p.driver.NodePublishVolume(call, p.wish)
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

// politeness says how many requests a vault has refused with a Retry-After, and how many it received after a refusal and
// before that time had passed.
func politeness(all []devcloud.Request, underWay time.Duration) (refused, sent, early int) {
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
