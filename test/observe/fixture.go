package observe

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keyvault-csi/keyvault-csi/internal/aging"
	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// Fixture is a node for the scenarios: a daemon, its cloud and pods.
type Fixture struct {
	*node.Node

	policy string // the daemon's policy file
	steady []kubelet.Volume
	pods   []kubelet.Volume
	serial int
	undo   []func() error
}

// Interval is the rotation interval of the driver, and Tolerance the age up to which failed refreshes are tolerated.
const (
	Interval  = 2 * time.Minute
	Tolerance = 3 * Interval
)

// memoryLimit is the driver's.
const memoryLimit = 256 << 20

const policyText = "rules: [{namespaces: [%s], identities: [workload, servicePrincipal, managed, cluster]}]\n"

// NewFixture starts a node and its first pods. dir is for the policy file.
func NewFixture(ctx context.Context, dir string) (*Fixture, error) {
	s := &Fixture{policy: filepath.Join(dir, "policy.yaml")}
	if err := s.writePolicy(fmt.Sprintf(policyText, node.Namespace)); err != nil {
		return nil, err
	}
	var err error
	s.Node, err = node.Start(ctx, node.Options{
		Provider: true,
		Flags:    []string{"--policy-file=" + s.policy, "--rotation-interval=" + Interval.String(), "--max-volume-bytes=64Mi"},
		Env:      []string{"MEMORY_LIMIT=" + strconv.Itoa(memoryLimit)},
	})
	if err != nil {
		return nil, err
	}
	if err := s.startPods(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Fixture) writePolicy(text string) error { return os.WriteFile(s.policy, []byte(text), 0o600) }

// startPods starts the pods that stay.
func (s *Fixture) startPods(ctx context.Context) error {
	for range 3 {
		v := s.workload("steady-pod", s.secret("steady"))
		if err := s.Publish(ctx, v); err != nil {
			return err
		}
		s.steady = append(s.steady, v)
	}
	return nil
}

// next makes a new name.
func (s *Fixture) next(prefix string) string {
	s.serial++
	return fmt.Sprintf("%s-%d", prefix, s.serial)
}

// The attribute timeout of a call that must succeed on a busy machine too, and of a call that must fail soon.
const (
	patient   = "110s"
	impatient = "700ms"
)

// workload is a volume of a new pod with workload identity.
func (s *Fixture) workload(prefix, secrets string) kubelet.Volume {
	return kubelet.Volume{
		Name:           s.next(prefix),
		Namespace:      node.Namespace,
		ServiceAccount: node.ServiceAccount,
		Attributes:     map[string]string{"vault": node.VaultURL, "clientID": node.WorkloadID, "secrets": secrets, "timeout": patient},
	}
}

// principal is a volume of a new pod with a service principal's client secret.
func (s *Fixture) principal(clientSecret, secrets string) kubelet.Volume {
	v := s.workload("principal-pod", secrets)
	delete(v.Attributes, "clientID")
	v.Secret = map[string]string{"clientid": node.PrincipalID, "clientsecret": clientSecret}
	return v
}

// startPod starts a pod that ends with the scenario.
func (s *Fixture) startPod(ctx context.Context, v kubelet.Volume) error {
	err := s.Publish(ctx, v)
	if err == nil {
		s.pods = append(s.pods, v)
	}
	return err
}

// refused starts pods at the same time, which must all fail.
func (s *Fixture) refused(ctx context.Context, pods ...kubelet.Volume) error {
	return atOnce(pods, func(v kubelet.Volume) error {
		v.Attributes["timeout"] = impatient
		if err := s.Publish(ctx, v); err == nil {
			return fmt.Errorf("the pod %s has started", v.PodName())
		}
		return nil
	})
}

// breakUntil injects faults and starts pods until the daemon's metrics have each of the answers. On a busy machine the timeout of a pod may
// end before its request reaches the fault.
func (s *Fixture) breakUntil(ctx context.Context, pods func(context.Context, *Fixture) error, answers []string, faults ...devcloud.Fault) error {
	for _, fault := range faults {
		if _, err := s.Cloud.Inject(fault); err != nil {
			return err
		}
	}
	for ctx.Err() == nil {
		if err := pods(ctx, s); err != nil {
			return err
		}
		page, err := s.Page(ctx)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(answers, func(answer string) bool { return !strings.Contains(page, answer) }) {
			return nil
		}
	}
	return fmt.Errorf("the answers %q never come: %w", answers, ctx.Err())
}

// republish makes the kubelet's next call for the pods that stay, with sets of that age; 0 means their real age. It returns the
// number of failed calls. (The driver detects a set that becomes younger as a change by others.)
func (s *Fixture) republish(ctx context.Context, age time.Duration, timeout string) (failed int, err error) {
	var failures atomic.Int32
	err = atOnce(s.steady, func(v kubelet.Volume) error {
		if age > 0 {
			if err := aging.Set(s.Target(v), time.Now().Add(-age)); err != nil {
				return err
			}
		}
		v.Attributes["timeout"] = timeout
		if s.Publish(ctx, v) != nil {
			failures.Add(1)
		}
		return nil
	})
	return int(failures.Load()), err
}

func atOnce(volumes []kubelet.Volume, do func(kubelet.Volume) error) error {
	var all errgroup.Group
	for _, v := range volumes {
		all.Go(func() error { return do(v) })
	}
	return all.Wait()
}

// unpublish ends pods.
func (s *Fixture) unpublish(ctx context.Context, volumes *[]kubelet.Volume) error {
	for _, v := range *volumes {
		if err := s.Unpublish(ctx, v); err != nil {
			return err
		}
	}
	*volumes = nil
	return nil
}

// cleanUp undoes the changes of a scenario in reverse order, and ends its pods.
func (s *Fixture) cleanUp(ctx context.Context) error {
	s.Cloud.ClearFaults()
	for len(s.undo) > 0 {
		last := len(s.undo) - 1
		if err := s.undo[last](); err != nil {
			return err
		}
		s.undo = s.undo[:last]
	}
	return s.unpublish(ctx, &s.pods)
}

// Page is the daemon's metrics.
func (s *Fixture) Page(ctx context.Context) (string, error) {
	_, page, err := s.Get(ctx, "/metrics")
	return page, err
}

// Address is host and port of the daemon's metrics.
func (s *Fixture) Address() string { return strings.TrimPrefix(s.HTTP, "http://") }
