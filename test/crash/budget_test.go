package crash_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// The daemon has 64 MiB more than it uses, and pods ask for more than that. Volumes that do not fit are refused. The kernel never kills
// the daemon, which refreshes and removes the mounted volumes, also after a restart with the same limit.
func TestMemoryBudget(t *testing.T) {
	t.Parallel()
	before := newBaseline(t)
	group := newMemoryGroup(t)
	n := node.New(t, node.Options{Env: []string{"TMPDIR=" + before.temporary}, Flags: []string{"--http-address="}})
	group.add(t, n.PID())
	group.limit(t, group.used(t)+64<<20)

	pods, first := mountUntilRefused(t, n)
	if len(pods) < 10 {
		t.Errorf("only %d volumes of 1 MB were mounted", len(pods))
	}
	late := newPod(n, "late", budgetFiles, budgetSize)
	refused(t, n, late)
	burstPods := burst(t, n)
	refreshAll(t, n, pods)

	if _, err := n.StopDaemon(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	restart(t, n)
	group.add(t, n.PID())
	refused(t, n, late)
	refreshAll(t, n, pods)

	for _, p := range pods[:4] {
		unpublish(t, n, p)
	}
	publish(t, n, late)
	for _, p := range slices.Concat(pods[4:], burstPods, []*pod{late, first}) {
		unpublish(t, n, p)
	}
	quit(t, n)
	before.nothingLeft(t, n)
	logVerdict(t, "memory budget: %d volumes of 1 MB in 64 MiB, then ResourceExhausted; all refreshed at once, before and after kill -9 with the same limit",
		len(pods))
}

const budgetFiles, budgetSize = 40, 25_000 // a set of 1 MB

// mountUntilRefused returns the pods with a volume, and the first without.
func mountUntilRefused(t *testing.T, n *node.Node) (pods []*pod, first *pod) {
	t.Helper()
	for i := range 100 {
		p := newPod(n, fmt.Sprint("pod", i), budgetFiles, budgetSize)
		err := n.Publish(t.Context(), p.Volume)
		if err != nil {
			tooLate(t, n, p, err)
			return pods, p
		}
		if err := p.current(n); err != nil {
			t.Fatal(err)
		}
		pods = append(pods, p)
	}
	t.Fatal("100 volumes of 1 MB were mounted in 64 MiB")
	return nil, nil
}

var budgetFigures = regexp.MustCompile(`takes \d MiB, and \d+ of the driver's \d+ MiB`)

// tooLate checks the error of a volume for which no memory is left.
func tooLate(t *testing.T, n *node.Node, p *pod, err error) {
	t.Helper()
	const want = "mount a volume at %q: no memory is left for it on this node: it takes N MiB, and N of the driver's N MiB are taken by mounted volumes, " +
		"their refreshes and the driver itself; raise resources.limits.memory of the driver, or lower what pods of this node mount"
	text := budgetFigures.ReplaceAllString(status.Convert(err).Message(), "takes N MiB, and N of the driver's N MiB")
	if status.Code(err) != codes.ResourceExhausted || text != fmt.Sprintf(want, n.Target(p.Volume)) {
		t.Fatalf("no memory left for %s: %v", p.Name, err)
	}
	if err := p.gone(n); err != nil {
		t.Error(err)
	}
}

// refused publishes a volume that does not fit, and repeats it as the kubelet does. All errors have the same text, so events aggregate.
func refused(t *testing.T, n *node.Node, p *pod) {
	t.Helper()
	texts := map[string]bool{}
	for range 3 {
		err := n.Publish(t.Context(), p.Volume)
		tooLate(t, n, p, err)
		texts[err.Error()] = true
	}
	if len(texts) > 1 {
		t.Errorf("the same refusal has %d texts: %v", len(texts), texts)
	}
}

// burst publishes 16 volumes at the same time. All are refused.
func burst(t *testing.T, n *node.Node) (burstPods []*pod) {
	t.Helper()
	var all sync.WaitGroup
	errs := make([]error, 16)
	burstPods = make([]*pod, len(errs))
	for i := range burstPods {
		burstPods[i] = newPod(n, fmt.Sprint("burst", i), budgetFiles, budgetSize)
		all.Go(func() { errs[i] = publishInTurn(t, n, burstPods[i], endedForOthers) })
	}
	all.Wait()
	for i, p := range burstPods {
		tooLate(t, n, p, errs[i])
	}
	return burstPods
}

// On a slow machine the daemon may end a call with a slow vault, so that other large volumes get its memory, or may have no
// memory for a call until its timeout.
const (
	endedForOthers = "other large volumes waited for it"
	waitedForOther = "waiting for memory of the driver that other volumes hold"
)

// publishInTurn repeats a call that ends with one of these texts, as the kubelet does.
func publishInTurn(t *testing.T, n *node.Node, p *pod, texts ...string) error {
	t.Helper()
	for ctx := suite.Context(t); ; {
		err := n.Publish(ctx, p.Volume)
		if !slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(status.Convert(err).Message(), text) }) {
			return err
		}
	}
}

// refreshAll refreshes all volumes with new content, at the same time.
func refreshAll(t *testing.T, n *node.Node, pods []*pod) {
	t.Helper()
	var all sync.WaitGroup
	errs := make([]error, len(pods))
	for i, p := range pods {
		n.Age(t, p.Volume, stale)
		p.change(n)
		all.Go(func() { errs[i] = publishInTurn(t, n, p, endedForOthers, waitedForOther) })
	}
	all.Wait()
	for i, p := range pods {
		if errs[i] != nil {
			t.Fatalf("refresh of %s: %s", p.Name, strings.TrimSpace(errs[i].Error()))
		}
		if err := p.current(n); err != nil {
			t.Fatal(err)
		}
	}
}
