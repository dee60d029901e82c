package driver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Pipeline is how the content of a volume is read, for all services of the daemon: the limits on memory, the policy, the
// timeout. It is safe for concurrent use.
type Pipeline struct {
	policy    Policy
	fetcher   Fetcher
	limits    volume.Limits
	admission *admission
	timeout   string // the name of the setting, for the error
	now       func() time.Time
}

// Run waits for admission, parses, asks the policy, fetches, and calls use with the content. The memory of the content is
// reserved until use returns. The attributes and the Secret are those of the call, with the kubelet's keys about the pod. A
// panic is an error like any other.
func (p *Pipeline) Run(parent context.Context, attributes, secrets map[string]string, parse func() (volume.Request, error),
	use func(context.Context, volume.Content) error,
) (err error) {
	defer recoverInto(parent, &err)

	admitted, memory, err := p.admission.admit(parent, attributes[volume.KubeletPodNamespace], attributes, secrets)
	if err != nil {
		return err
	}
	defer memory.release()

	request, err := parse()
	if err != nil {
		return err
	}
	if request.Permit, err = p.policy.Allow(request); err != nil {
		return err
	}
	request.NotBefore = p.policy.RefreshAfter(request, p.now())
	request.Limits, request.Memory = p.limits, memory
	ctx, cancel := context.WithTimeout(admitted, request.Timeout)
	defer cancel()

	content, err := p.fetcher.Fetch(ctx, request)
	if err == nil {
		err = use(ctx, content)
	}
	switch {
	case err == nil:
	case errors.Is(context.Cause(ctx), errEvicted):
		err = errEvicted
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil && parent.Err() == nil:
		err = fmt.Errorf("not ready within the volume's timeout of %s%s: %w", request.Timeout, p.timeout, err)
	}
	return err
}

// Forget is called when a volume is gone. It may never have been fetched.
func (p *Pipeline) Forget(volume string) { p.fetcher.Forget(volume) }
