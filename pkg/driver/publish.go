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
	state, err := n.store.Inspect(ctx, w.mount.Target)
	if err != nil {
		return err
	}
	age := n.now().Sub(state.Fetched)
	interval, err := volume.RotationInterval(w.attributes, n.defaults.RotationInterval)
	if err != nil {
		interval = n.defaults.RotationInterval // Parse tells it, with all the rest, as soon as the set is of age
	}
	if state.Published {
		n.volumes.LoadOrStore(w.volumeID, struct{}{})
	}
	if state.Published && !state.Unverified && !state.Outage && (interval == 0 || younger(age, interval)) {
		return nil
	}

	tolerated := max(minTolerance, 3*interval)
	content, outcome, err := n.replace(ctx, w, state.Published)
	n.watch(ctx, outcome)
	switch {
	case err == nil && !state.Published:
		n.volumes.Store(w.volumeID, struct{}{})
		n.published(ctx, w, content.Outage, outcome, younger(n.now().Sub(content.Fetched), tolerated))
		return nil
	case err != nil && !state.Published:
		n.fetcher.Forget(w.volumeID)
		return err
	case err == nil:
		n.refreshed(ctx, w, outcome)
		return nil
	case ctx.Err() != nil: // nobody waits for the answer
		return err
	}
	return n.tolerate(ctx, w, err, younger(age, tolerated))
}

// watch tells the log and the metrics of what should never be: somebody else wrote into a volume, or still can.
func (n *nodeServer) watch(ctx context.Context, outcome volume.Outcome) {
	if outcome.Tampered != "" {
		n.metrics.tampered.Inc()
		klog.FromContext(ctx).Error(nil, "volume was changed by somebody else", keyFound, outcome.Tampered)
	}
	if outcome.Writable != "" {
		n.metrics.writable.Inc()
		klog.FromContext(ctx).Error(nil, "volume is not read-only; the next call of the kubelet tries again", keyReason, outcome.Writable)
	}
}

// unclean is what the health of a volume says after a publish that worked; ok is false if there is nothing to say.
func unclean(outcome volume.Outcome) (what note, ok bool) {
	switch {
	case outcome.Tampered != "":
		return note{reason: reasonTampered, text: oneLine("somebody else had changed the volume, and its files have been replaced: " + outcome.Tampered)}, true
	case outcome.Writable != "":
		return note{reason: reasonWritable, text: oneLine(outcome.Writable)}, true
	}
	return note{}, false
}

// younger: a set from the future is not, for its true age is unknown.
func younger(age, limit time.Duration) bool { return age >= 0 && age < limit }

// published records a first publish. Files that are not from the vault but from what the node last saw are told of like
// those of a failed refresh, until one works.
func (n *nodeServer) published(ctx context.Context, w wish, outage error, outcome volume.Outcome, usable bool) {
	if outage != nil {
		failure := newFailure("the files are the last that this node saw: "+outage.Error(), usable)
		n.notes.set(w.volumeID, failure)
		klog.FromContext(ctx).Error(errors.New(failure.text), "volume published without the vault", keyStale, !usable)
		return
	}
	if what, ok := unclean(outcome); ok {
		n.notes.set(w.volumeID, what)
	} else {
		n.notes.drop(w.volumeID)
	}
	klog.FromContext(ctx).Info("volume published")
}

// newFailure is the note of a set that could not be refreshed.
func newFailure(text string, usable bool) note {
	if usable {
		return note{reason: reasonRefreshFailed, text: oneLine(text)}
	}
	return note{reason: reasonStale, text: oneLine(text)}
}

// refreshed records a rotation that worked.
func (n *nodeServer) refreshed(ctx context.Context, w wish, outcome volume.Outcome) {
	result := rotationUnchanged
	if outcome.Changed {
		result = rotationChanged
	}
	n.metrics.rotation(result)
	if what, ok := unclean(outcome); ok {
		n.notes.set(w.volumeID, what)
		return
	}
	if recovered := n.notes.drop(w.volumeID); recovered || outcome.Changed {
		klog.FromContext(ctx).Info("volume refreshed", keyChanged, outcome.Changed)
	}
}

// tolerate records a refresh that failed, and answers nil while the set may still be used. The text of a failure is
// logged when it is new, for the kubelet comes back every minute.
func (n *nodeServer) tolerate(ctx context.Context, w wish, err error, usable bool) error {
	n.metrics.rotation(rotationFailed)
	failure := newFailure(err.Error(), usable)
	if n.notes.set(w.volumeID, failure) {
		klog.FromContext(ctx).Error(errors.New(failure.text), "volume not refreshed; the pod keeps the files that it has",
			keyCode, codeOf(err).String(), keyStale, !usable)
	}
	if usable {
		return nil
	}
	return volume.Errorf(volume.ErrUnavailable, "%s", failure.text)
}

// replace is steps 4 to 7. A panic in one of them is an error like another, so that a set which is there outlives it.
func (n *nodeServer) replace(parent context.Context, w wish, complete bool) (content volume.Content, outcome volume.Outcome, err error) {
	defer recoverInto(parent, &err)

	admitted, publish, err := n.admission.enter(parent, w.attributes[volume.KubeletPodNamespace], w.attributes, w.secrets)
	if err != nil {
		return content, outcome, err
	}
	defer publish.leave()

	request, err := n.parser.Parse(w.attributes, w.secrets)
	if err != nil {
		return content, outcome, err
	}
	if request.Permit, err = n.policy.Allow(request); err != nil {
		return content, outcome, err
	}
	request.Volume, request.Refresh, request.Limits, request.Memory = w.volumeID, complete, n.limits, publish
	ctx, cancel := context.WithTimeout(admitted, request.Timeout)
	defer cancel()

	content, err = n.fetcher.Fetch(ctx, request)
	if err != nil {
		return content, outcome, explain(parent, ctx, err, request.Timeout)
	}
	outcome, err = n.store.Publish(ctx, w.mount, content)
	return content, outcome, explain(parent, ctx, err, request.Timeout)
}

// explain says which clock ran out when it was the volume's own and not the caller's, and that it had to give way.
func explain(parent, own context.Context, err error, timeout time.Duration) error {
	if err != nil && errors.Is(context.Cause(own), errGaveWay) {
		return errGaveWay
	}
	if errors.Is(err, context.DeadlineExceeded) && own.Err() != nil && parent.Err() == nil {
		return fmt.Errorf("not ready within the volume's timeout of %s (attribute timeout): %w", timeout, err)
	}
	return err
}
