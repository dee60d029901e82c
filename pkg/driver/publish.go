package driver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/klog/v2"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// minTolerance is how old a set may always become before a failed refresh is an error.
const minTolerance = 5 * time.Minute

// wish is one NodePublishVolume whose CSI fields have been checked.
type wish struct {
	volumeID            string
	mount               volume.Mount
	attributes, secrets map[string]string
}

// publish is steps 3 to 7: it brings the set at the target up to date, and puts up with a failure where a set is
// there that may still be used.
func (n *nodeServer) publish(ctx context.Context, w wish) error {
	fetched, complete, err := n.store.Refreshed(w.mount.Target)
	if err != nil {
		return err
	}
	age := n.now().Sub(fetched)
	interval, err := volume.RotationInterval(w.attributes, n.defaults.RotationInterval)
	if err != nil {
		interval = n.defaults.RotationInterval // Parse tells it, with all the rest, as soon as the set is of age
	}
	if complete {
		n.volumes.LoadOrStore(w.volumeID, struct{}{})
	}
	if complete && (interval == 0 || younger(age, interval)) {
		return nil
	}

	tolerated := max(minTolerance, 3*interval)
	content, changed, err := n.replace(ctx, w, complete)
	switch {
	case err == nil && !complete:
		n.volumes.Store(w.volumeID, struct{}{})
		n.published(ctx, w, content.Outage, younger(n.now().Sub(content.Fetched), tolerated))
		return nil
	case err != nil && !complete:
		n.fetcher.Forget(w.volumeID)
		return err
	case err == nil:
		n.refreshed(ctx, w, changed)
		return nil
	case ctx.Err() != nil: // nobody waits for the answer
		return err
	}
	return n.tolerate(ctx, w, err, younger(age, tolerated))
}

// younger: a set from the future is not, for its true age is unknown.
func younger(age, limit time.Duration) bool { return age >= 0 && age < limit }

// published records a first publish. Files that are not from the vault but from what the node last saw are told of like
// those of a failed refresh, until one works.
func (n *nodeServer) published(ctx context.Context, w wish, outage error, usable bool) {
	if outage == nil {
		n.notes.drop(w.volumeID)
		klog.FromContext(ctx).Info("volume published")
		return
	}
	failure := note{text: oneLine("the files are the last that this node saw: " + outage.Error()), stale: !usable}
	n.notes.set(w.volumeID, failure)
	klog.FromContext(ctx).Error(errors.New(failure.text), "volume published without the vault", keyStale, failure.stale)
}

// refreshed records a rotation that worked.
func (n *nodeServer) refreshed(ctx context.Context, w wish, changed bool) {
	result := rotationUnchanged
	if changed {
		result = rotationChanged
	}
	n.metrics.rotation(result)
	if recovered := n.notes.drop(w.volumeID); recovered || changed {
		klog.FromContext(ctx).Info("volume refreshed", keyChanged, changed)
	}
}

// tolerate records a refresh that failed, and answers nil while the set may still be used. The text of a failure is
// logged when it is new, for the kubelet comes back every minute.
func (n *nodeServer) tolerate(ctx context.Context, w wish, err error, usable bool) error {
	n.metrics.rotation(rotationFailed)
	failure := note{text: oneLine(err.Error()), stale: !usable}
	if n.notes.set(w.volumeID, failure) {
		klog.FromContext(ctx).Error(errors.New(failure.text), "volume not refreshed; the pod keeps the files that it has",
			keyCode, codeOf(err).String(), keyStale, failure.stale)
	}
	if usable {
		return nil
	}
	return volume.Errorf(volume.ErrUnavailable, "%s", failure.text)
}

// replace is steps 4 to 7. A panic in one of them is an error like another, so that a set which is there outlives it.
func (n *nodeServer) replace(parent context.Context, w wish, complete bool) (content volume.Content, changed bool, err error) {
	defer recoverInto(parent, &err)

	request, err := n.parser.Parse(w.attributes, w.secrets)
	if err != nil {
		return content, false, err
	}
	if err := n.policy.Allow(request); err != nil {
		return content, false, err
	}
	request.Volume, request.Refresh = w.volumeID, complete
	ctx, cancel := context.WithTimeout(parent, request.Timeout)
	defer cancel()

	content, err = n.fetcher.Fetch(ctx, request)
	if err != nil {
		return content, false, explain(parent, ctx, err, request.Timeout)
	}
	changed, err = n.store.Publish(ctx, w.mount, content)
	return content, changed, explain(parent, ctx, err, request.Timeout)
}

// explain says which clock ran out when it was the volume's own and not the caller's.
func explain(parent, own context.Context, err error, timeout time.Duration) error {
	if errors.Is(err, context.DeadlineExceeded) && own.Err() != nil && parent.Err() == nil {
		return fmt.Errorf("not ready within the volume's timeout of %s (attribute timeout): %w", timeout, err)
	}
	return err
}
