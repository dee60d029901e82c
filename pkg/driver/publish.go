package driver

import (
	"context"
	"errors"
	"math"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// minTolerance is the age below which a set may always be used although it cannot be refreshed.
const minTolerance = 5 * time.Minute

// publishRequest is a NodePublishVolume whose CSI fields have been checked.
type publishRequest struct {
	volumeID            string
	mount               volume.Mount
	attributes, secrets map[string]string

	refresh bool      // a set is there
	young   bool      // which is only due if the policy says so
	fetched time.Time // when the oldest object of the set was fetched
}

// publish is steps 3 to 7: it brings the set at the target up to date.
func (n *nodeServer) publish(ctx context.Context, r publishRequest) error {
	state, err := n.config.Store.Inspect(ctx, r.mount.Target)
	if err != nil {
		return err
	}
	interval, err := volume.RotationInterval(r.attributes, n.config.Defaults.RotationInterval)
	if err != nil {
		interval = n.config.Defaults.RotationInterval // Parse reports the error when the set is due
	}
	tolerance := max(minTolerance, 3*min(interval, math.MaxInt64/3))
	if !state.Published {
		return n.publishFirst(ctx, r, tolerance)
	}

	r.refresh, r.fetched = true, state.Fetched
	r.young = !state.Unverified && !state.Outage && (interval == 0 || n.younger(state.Fetched, interval))
	health := volumeHealth{}
	if !r.young && !n.younger(state.Fetched, tolerance) {
		health = notRefreshed("not refreshed since the start of the driver", false)
	}
	n.volumes.LoadOrStore(r.volumeID, health)
	before := n.seeSet(r)
	if r.young && !before {
		return nil
	}
	return n.refresh(ctx, r, tolerance)
}

// younger reports whether a set that was fetched then is younger than the limit. A set from the future is not: its age is
// unknown.
func (n *nodeServer) younger(fetched time.Time, limit time.Duration) bool {
	age := n.now().Sub(fetched)
	return age >= 0 && age < limit
}

func (n *nodeServer) publishFirst(ctx context.Context, r publishRequest, tolerance time.Duration) error {
	content, outcome, err := n.replace(ctx, r)
	health := n.inspect(ctx, r.volumeID, outcome)
	if err != nil {
		n.forget(r.volumeID)
		return err
	}
	logger := klog.FromContext(ctx)
	logNotes(logger, content)
	if content.Outage == nil {
		n.volumes.Store(r.volumeID, judge(logger, health, volumeHealth{}, content))
		logger.Info("volume published")
		return nil
	}
	usable := n.younger(content.Fetched, tolerance)
	health = notRefreshed("the files are the last that this node saw: "+content.Outage.Error(), usable)
	n.volumes.Store(r.volumeID, health)
	logger.Error(errors.New(health.message), "volume published without the vault", "stale", !usable)
	return nil
}

// refresh replaces a set that is due. While the old set is usable a failure is recorded and not returned. It is logged only
// if it differs from the last one, because the kubelet calls every minute.
func (n *nodeServer) refresh(ctx context.Context, r publishRequest, tolerance time.Duration) error {
	usable := n.younger(r.fetched, tolerance)
	content, outcome, err := n.replace(ctx, r)
	if errors.Is(err, errYoung) {
		return nil
	}
	health, logger := n.inspect(ctx, r.volumeID, outcome), klog.FromContext(ctx)
	switch {
	case err == nil && content.Outage != nil:
		if outcome.Changed {
			logNotes(logger, content)
		}
		n.metrics.rotations.WithLabelValues(rotationLate).Inc()
		return n.notRefreshed(logger, r, content.Outage, n.younger(content.Fetched, tolerance))
	case err == nil:
		result := rotationUnchanged
		if outcome.Changed {
			result = rotationChanged
			logNotes(logger, content)
		}
		n.metrics.rotations.WithLabelValues(result).Inc()
		stored, _ := n.volumes.Load(r.volumeID)
		before, _ := stored.(volumeHealth)
		n.volumes.Store(r.volumeID, judge(logger, health, before, content))
		recovered := before.reason != "" && before.reason != reasonIncompleteChain
		if health == (volumeHealth{}) && (recovered || outcome.Changed) {
			logger.Info("volume refreshed", "changed", outcome.Changed)
		}
		return nil
	case ctx.Err() != nil: // the kubelet does not wait for the answer any more
		return err
	}
	n.metrics.rotations.WithLabelValues(rotationFailed).Inc()
	return n.notRefreshed(logger, r, err, usable)
}

// notRefreshed records that a set is older than its interval, and returns an error if it is too old.
func (n *nodeServer) notRefreshed(logger klog.Logger, r publishRequest, err error, usable bool) error {
	health := notRefreshed(err.Error(), usable)
	if before, _ := n.volumes.Swap(r.volumeID, health); before != health {
		logger.Error(errors.New(health.message), "volume not refreshed; the pod keeps the files that it has",
			"code", codeOf(err).String(), "stale", !usable)
	}
	if usable {
		return nil
	}
	return volume.Errorf(volume.ErrUnavailable, "%s", health.message)
}

// logNotes logs what a new set lacks, in one line: a pod can have thousands of objects.
func logNotes(logger klog.Logger, content volume.Content) {
	if len(content.Notes) > 0 {
		logger.Info("volume lacks files", "objects", len(content.Notes), "reason", oneLine(strings.Join(content.Notes, "; ")))
	}
}

// replace is steps 4 to 7. A panic in one of them is an error like any other, so that a set that is there stays in use.
func (n *nodeServer) replace(ctx context.Context, r publishRequest) (content volume.Content, outcome volume.Outcome, err error) {
	var subject *volume.Request
	parse := func() (volume.Request, error) {
		request, err := n.parser.Parse(r.attributes, r.secrets)
		if err != nil {
			return request, err
		}
		subject = subjectOf(request)
		request.Volume, request.Refresh = r.volumeID, r.refresh
		return request, n.checkYoung(r, subject)
	}
	err = n.pipeline.Run(ctx, r.attributes, r.secrets, parse, func(ctx context.Context, fetched volume.Content) (err error) {
		content = fetched
		if outcome, err = n.config.Store.Publish(ctx, r.mount, content); err == nil {
			n.sets.Store(r.volumeID, setOf(content, subject))
		}
		return err
	})
	return content, outcome, err
}
