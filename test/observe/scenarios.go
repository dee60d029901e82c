package observe

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/aging"
	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// Scenario is one problem of the driver, and its alerts.
type Scenario struct {
	Name   string
	Alerts []string // exactly those that fire

	begin func(ctx context.Context, s *Fixture) error // once; may be nil
	tick  func(ctx context.Context, s *Fixture) error // repeatedly during the scenario; may be nil
	stays bool                                        // the next scenario continues this one
}

// Begin starts the scenario.
func (c Scenario) Begin(ctx context.Context, s *Fixture) error {
	if c.begin == nil {
		return nil
	}
	return c.begin(ctx, s)
}

// Tick makes the next step of the scenario.
func (c Scenario) Tick(ctx context.Context, s *Fixture) error {
	if c.tick == nil {
		return nil
	}
	return c.tick(ctx, s)
}

// End undoes the scenario.
func (c Scenario) End(ctx context.Context, s *Fixture) error {
	if c.stays {
		return nil
	}
	return s.cleanUp(ctx)
}

// Scenarios are all scenarios, in order.
func Scenarios() []Scenario {
	return []Scenario{
		{Name: "rotation", begin: beginRotation, tick: youngRepublish},
		{Name: "throttling", Alerts: []string{"KeyVaultCSIThrottled"}, begin: beginThrottling, tick: throttledPod},
		{
			Name: "outage", Alerts: []string{"KeyVaultCSIVaultFailing", "KeyVaultCSIRefreshFailing"}, stays: true,
			begin: beginOutage, tick: tickOutage,
		},
		{
			Name: "long outage", Alerts: []string{"KeyVaultCSIVaultFailing", "KeyVaultCSIRefreshFailing", "KeyVaultCSIVolumesStale"},
			begin: beginLongOutage, tick: tickLongOutage,
		},
		{Name: "refused login", Alerts: []string{"KeyVaultCSILoginRefused"}, begin: beginRefusedLogin, tick: refusedLogin},
		{Name: "refused by the vault", Alerts: []string{"KeyVaultCSIVaultRefused"}, begin: beginRefusal, tick: tickRefusal},
		{
			Name: "certificate of three days", Alerts: []string{"KeyVaultCSICertificateExpiring"},
			begin: func(ctx context.Context, s *Fixture) error { return beginCertificate(ctx, s, 72*time.Hour) },
		},
		{
			Name: "certificate of three hours", Alerts: []string{"KeyVaultCSICertificateExpiring", "KeyVaultCSICertificateExpiresToday"},
			begin: func(ctx context.Context, s *Fixture) error { return beginCertificate(ctx, s, 3*time.Hour) },
		},
		{Name: "incomplete chain", Alerts: []string{"KeyVaultCSIChainIncomplete"}, begin: beginIncompleteChain},
		{Name: "failing provider", Alerts: []string{"KeyVaultCSIProviderFailing"}, begin: tickFailingProvider, tick: tickFailingProvider},
		{Name: "broken policy", Alerts: []string{"KeyVaultCSIPolicyBroken"}, begin: beginBrokenPolicy, tick: tickBrokenPolicy},
		{Name: "tampered volume", Alerts: []string{"KeyVaultCSIVolumeTampered"}, begin: beginTampering, tick: tickTampering},
		{Name: "volume that stays writable", Alerts: []string{"KeyVaultCSIVolumeWritable"}, begin: beginHolding, tick: tickHolding},
		{Name: "node without memory for more volumes", Alerts: []string{"KeyVaultCSINodeMemoryLow"}, begin: beginMemoryLow},
		{Name: "full cache", Alerts: []string{"KeyVaultCSICacheFull"}, begin: beginFullCache, tick: tickFullCache},
		{Name: "no driver", Alerts: []string{"KeyVaultCSIDriverDown", "KeyVaultCSINoMetrics"}, begin: beginNoDriver},
	}
}

// A normal rotation: one object changes, all volumes are due, and one of them is swapped.
func beginRotation(ctx context.Context, s *Fixture) error {
	s.Vault.SetSecret(s.steady[0].Attributes["secrets"], "second value", devcloud.SecretOptions{})
	failed, err := s.republish(ctx, Interval+time.Second, patient)
	if failed > 0 {
		err = fmt.Errorf("%d refreshes failed", failed)
	}
	// New pods with existing objects start.
	return errors.Join(err, s.startPod(ctx, s.workload("pod", s.steady[0].Attributes["secrets"])))
}

func youngRepublish(ctx context.Context, s *Fixture) error {
	_, err := s.republish(ctx, 0, patient)
	return err
}

func beginThrottling(ctx context.Context, s *Fixture) error {
	return s.breakUntil(ctx, throttledPod, []string{`code="429",kind="secret"`},
		devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Throttle, RetryAfter: time.Second})
}

func throttledPod(ctx context.Context, s *Fixture) error {
	return s.refused(ctx, s.workload("throttled-pod", s.secret("throttled")))
}

// secret adds a new secret to the vault and returns its name.
func (s *Fixture) secret(prefix string) string {
	name := s.next(prefix)
	s.Vault.SetSecret(name, "first value", devcloud.SecretOptions{})
	return name
}

// In an outage the vault's connections break, or it answers 503.
func beginOutage(ctx context.Context, s *Fixture) error {
	return s.breakUntil(ctx, outagePods, []string{`code="none",kind="secret"`, `code="503",kind="secret"`},
		devcloud.Fault{
			Service: devcloud.ServiceVault, Path: "/secrets/failing", Action: devcloud.Fail, Status: http.StatusServiceUnavailable,
		},
		devcloud.Fault{Service: devcloud.ServiceVault, Action: devcloud.Reset})
}

func outagePods(ctx context.Context, s *Fixture) error {
	return s.refused(ctx, s.workload("pod", s.secret("failing")), s.workload("pod", s.secret("unreachable")))
}

// The volumes are due but not stale, so their refreshes answer OK. New pods do not start.
func tickOutage(ctx context.Context, s *Fixture) error {
	if failed, err := s.republish(ctx, Tolerance-time.Minute, impatient); err != nil || failed > 0 {
		return errors.Join(err, fmt.Errorf("%d republishes failed, and should be tolerated", failed))
	}
	return outagePods(ctx, s)
}

func beginLongOutage(ctx context.Context, s *Fixture) error {
	s.undo = append(s.undo, func() error {
		if err := s.unpublish(ctx, &s.steady); err != nil {
			return err
		}
		return s.startPods(ctx)
	})
	return nil
}

func tickLongOutage(ctx context.Context, s *Fixture) error {
	failed, err := s.republish(ctx, Tolerance+time.Minute, impatient)
	if err == nil && failed != len(s.steady) {
		err = fmt.Errorf("of %d stale volumes %d returned an error", len(s.steady), failed)
	}
	return errors.Join(err, outagePods(ctx, s))
}

func beginRefusedLogin(ctx context.Context, s *Fixture) error {
	return s.breakUntil(ctx, refusedLogin, []string{`code="401",identity="servicePrincipal"`})
}

func refusedLogin(ctx context.Context, s *Fixture) error {
	return s.refused(ctx, s.principal(s.next("wrong"), s.secret("login")))
}

// The principal logs in, but has no role. A proxy in between refuses the token.
func beginRefusal(ctx context.Context, s *Fixture) error {
	s.Vault.Deny(node.PrincipalID)
	s.undo = append(s.undo, func() error {
		s.Vault.Grant(node.PrincipalID)
		return nil
	})
	return s.breakUntil(ctx, tickRefusal, []string{`code="401",kind="secret"`, `code="403",kind="secret"`}, devcloud.Fault{
		Service: devcloud.ServiceVault, Path: "/secrets/unauthorized", Action: devcloud.Fail, Status: http.StatusUnauthorized,
	})
}

func tickRefusal(ctx context.Context, s *Fixture) error {
	return s.refused(ctx, s.principal(node.PrincipalSecret, s.secret("forbidden")), s.workload("pod", s.secret("unauthorized")))
}

func beginBrokenPolicy(ctx context.Context, s *Fixture) error {
	s.undo = append(s.undo, func() error { return s.writePolicy(fmt.Sprintf(policyText, node.Namespace)) })
	return tickBrokenPolicy(ctx, s)
}

// The file changes repeatedly, so that the daemon certainly reads one of the states.
func tickBrokenPolicy(_ context.Context, s *Fixture) error {
	return s.writePolicy(s.next("rules") + ": []\n")
}

// A file is added to the volume of a pod, repeatedly.
func beginTampering(ctx context.Context, s *Fixture) error {
	if err := s.startPod(ctx, s.workload("tampered-pod", s.secret("tampered"))); err != nil {
		return err
	}
	return tickTampering(ctx, s)
}

func tickTampering(ctx context.Context, s *Fixture) error {
	v := s.pods[len(s.pods)-1]
	err := aging.Writable(s.Target(v), func(dir string) error { return os.WriteFile(filepath.Join(dir, "planted"), nil, 0o600) })
	if err != nil {
		return err
	}
	return s.refresh(ctx, v)
}

// A removed file of a volume is kept open, here by the test.
func beginHolding(ctx context.Context, s *Fixture) error {
	v := s.workload("holding-pod", s.secret("held"))
	if err := s.startPod(ctx, v); err != nil {
		return err
	}
	err := aging.Writable(s.Target(v), func(dir string) error {
		held, err := os.Create(filepath.Join(dir, "held")) //nolint:gosec // G304: a folder of the test
		if err == nil {
			s.undo = append(s.undo, held.Close)
			err = os.Remove(held.Name())
		}
		return err
	})
	if !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("a removed file is open, but the file system became read-only: %w", err)
	}
	return tickHolding(ctx, s)
}

func tickHolding(ctx context.Context, s *Fixture) error {
	return s.refresh(ctx, s.pods[len(s.pods)-1])
}

// refresh makes the volume old and refreshes it.
func (s *Fixture) refresh(ctx context.Context, v kubelet.Volume) error {
	const due = 3 * time.Minute // longer than the rotation interval, shorter than the tolerance
	if err := aging.Set(s.Target(v), time.Now().Add(-due)); err != nil && !errors.Is(err, unix.EBUSY) {
		return err
	}
	return s.Publish(ctx, v)
}

// Pods mount volumes until little memory of the driver is left.
func beginMemoryLow(ctx context.Context, s *Fixture) error {
	const size, copies = 512 << 10, 16
	name := s.next("large")
	s.Vault.SetSecret(name, strings.Repeat("x", size), devcloud.SecretOptions{})
	var objects strings.Builder
	for i := range copies {
		fmt.Fprintf(&objects, "- {secret: %s, path: file%d}\n", name, i)
	}
	for range memoryLimit / (size * copies) {
		v := s.workload("large-pod", "")
		delete(v.Attributes, "secrets")
		v.Attributes["objects"] = objects.String()
		switch err := s.startPod(ctx, v); {
		case status.Code(err) == codes.ResourceExhausted:
			return nil
		case err != nil:
			return err
		}
	}
	return errors.New("the memory of the driver has no end")
}

// Pods ask for more than fits into the cache. The secret of a certificate counts four times, because the cache has it encoded and decoded,
// so a quarter of the cache is enough.
func beginFullCache(ctx context.Context, s *Fixture) error {
	const cache = 4 << 20
	return s.greedyPod(ctx, cache/(4*bigSecret)+2)
}

func tickFullCache(ctx context.Context, s *Fixture) error { return s.greedyPod(ctx, 1) }

const bigSecret = 900 << 10

func (s *Fixture) greedyPod(ctx context.Context, secrets int) error {
	value := strings.Repeat("x", bigSecret)
	var objects strings.Builder
	for range secrets {
		name := s.next("big")
		s.Vault.SetSecret(name, value, devcloud.SecretOptions{Kid: node.VaultURL + "/keys/" + name})
		fmt.Fprintf(&objects, "- secret: %s\n", name)
	}
	v := s.workload("greedy-pod", "")
	delete(v.Attributes, "secrets")
	v.Attributes["objects"] = objects.String()
	return s.startPod(ctx, v)
}

func beginNoDriver(ctx context.Context, s *Fixture) error {
	_, err := s.StopDaemon(syscall.SIGTERM)
	s.undo = append(s.undo, func() error { return s.StartDaemon(ctx) })
	return err
}
