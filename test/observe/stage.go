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

// Stage is a node on which things go wrong: a daemon, its cloud, and pods that come and go.
type Stage struct {
	*node.Node

	policy string // the daemon's policy file
	steady []kubelet.Volume
	guests []kubelet.Volume
	serial int
	undo   []func() error
}

// Interval is the rotation interval of the stage's driver, and Tolerance how old a set may become there.
const (
	Interval  = 2 * time.Minute
	Tolerance = 3 * Interval
)

// memoryLimit is that of the stage's driver.
const memoryLimit = 256 << 20

const policyText = "rules: [{namespaces: [%s], identities: [workload, servicePrincipal, managed, cluster]}]\n"

// NewStage starts a node and its first pods. dir is for the operator's files.
func NewStage(ctx context.Context, dir string) (*Stage, error) {
	s := &Stage{policy: filepath.Join(dir, "policy.yaml")}
	if err := s.writePolicy(fmt.Sprintf(policyText, node.Namespace)); err != nil {
		return nil, err
	}
	var err error
	s.Node, err = node.Start(ctx, node.Options{
		Flags: []string{"--policy-file=" + s.policy, "--rotation-interval=" + Interval.String(), "--max-volume-bytes=64Mi"},
		Env:   []string{"MEMORY_LIMIT=" + strconv.Itoa(memoryLimit)},
	})
	if err != nil {
		return nil, err
	}
	if err := s.settle(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Stage) writePolicy(text string) error { return os.WriteFile(s.policy, []byte(text), 0o600) }

// settle starts the pods that stay.
func (s *Stage) settle(ctx context.Context) error {
	for range 3 {
		v := s.workload("steady-pod", s.secret("steady"))
		if err := s.Publish(ctx, v); err != nil {
			return err
		}
		s.steady = append(s.steady, v)
	}
	return nil
}

// next makes a name that nothing has had.
func (s *Stage) next(prefix string) string {
	s.serial++
	return fmt.Sprintf("%s-%d", prefix, s.serial)
}

// The attribute timeout of a call that is to succeed on a busy machine too, and of one that is to fail soon.
const (
	patient   = "20s"
	impatient = "700ms"
)

// workload is a volume of a new pod with workload identity.
func (s *Stage) workload(prefix, secrets string) kubelet.Volume {
	return kubelet.Volume{
		Name:           s.next(prefix),
		Namespace:      node.Namespace,
		ServiceAccount: node.ServiceAccount,
		Attributes:     map[string]string{"vault": node.VaultURL, "clientID": node.WorkloadID, "secrets": secrets, "timeout": patient},
	}
}

// principal is the same with a service principal's client secret.
func (s *Stage) principal(clientSecret, secrets string) kubelet.Volume {
	v := s.workload("principal-pod", secrets)
	delete(v.Attributes, "clientID")
	v.Secret = map[string]string{"clientid": node.PrincipalID, "clientsecret": clientSecret}
	return v
}

// guest starts a pod that goes with the scene.
func (s *Stage) guest(ctx context.Context, v kubelet.Volume) error {
	err := s.Publish(ctx, v)
	if err == nil {
		s.guests = append(s.guests, v)
	}
	return err
}

// refused starts pods, all at once, that must not start, and says so if one does.
func (s *Stage) refused(ctx context.Context, pods ...kubelet.Volume) error {
	return atOnce(pods, func(v kubelet.Volume) error {
		v.Attributes["timeout"] = impatient
		if err := s.Publish(ctx, v); err == nil {
			return fmt.Errorf("the pod %s has started", v.PodName())
		}
		return nil
	})
}

// breakUntil injects faults and lets pods come until the daemon's page tells of each of the answers: on a busy machine a pod
// may give up before its request has got as far as that.
func (s *Stage) breakUntil(ctx context.Context, pods func(context.Context, *Stage) error, answers []string, faults ...devcloud.Fault) error {
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

// republish plays the kubelet's next call for the pods that stay, whose files are of that age by now, or with 0 as old as they are. It
// gives how many calls failed. (Files that become younger behind the driver's back are a change that it notices.)
func (s *Stage) republish(ctx context.Context, age time.Duration, timeout string) (failed int, err error) {
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

// leave ends pods.
func (s *Stage) leave(ctx context.Context, volumes *[]kubelet.Volume) error {
	for _, v := range *volumes {
		if err := s.Unpublish(ctx, v); err != nil {
			return err
		}
	}
	*volumes = nil
	return nil
}

// mend undoes what a scene has done, last first, and ends its pods.
func (s *Stage) mend(ctx context.Context) error {
	s.Cloud.ClearFaults()
	for len(s.undo) > 0 {
		last := len(s.undo) - 1
		if err := s.undo[last](); err != nil {
			return err
		}
		s.undo = s.undo[:last]
	}
	return s.leave(ctx, &s.guests)
}

// Page is the daemon's page of metrics.
func (s *Stage) Page(ctx context.Context) (string, error) {
	_, page, err := s.Get(ctx, "/metrics")
	return page, err
}

// Address is where Prometheus finds the daemon: host and port.
func (s *Stage) Address() string { return strings.TrimPrefix(s.HTTP, "http://") }
