package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/keyvault-csi/keyvault-csi/cmd/kvcsi/internal/cluster"
)

const statusUsage = `%[1]s shows each volume of the driver in your pods: its age, whether it is fresh, the last error, and the first end of its
certificates. It asks with your own kubeconfig: pods (list), their events (list), and the driver of each node by port-forward. Without a
right it shows the rest, and says on standard error what is missing. It reads no Secret and no value.

Usage: %[1]s [-n NAMESPACE | -A] [-l SELECTOR] [-o table|json] [POD...]

States:
  fresh      the last refresh worked
  failing    the last refresh failed; the files are still young enough
  stale      no refresh for too long; the pod keeps its files
  degraded   refreshed, but incomplete or changed by another process; the message says what
  failed     not mounted; the message is the error of the last event
  waiting    not mounted, without an error: not yet, or not any more
  unseen     not yet seen by the driver since its start; the kubelet calls it every 60 to 90 seconds
  unknown    a right is missing, or the driver of the node does not answer; standard error says which

Exit code: 0 if no volume is stale, failing, degraded or failed (unknown, unseen and waiting ones do not count), 1 if one is, or if the
cluster cannot be asked, 2 for a wrong command line.
`

// The states of a volume.
const (
	stateFresh    = "fresh"
	stateFailing  = "failing"
	stateStale    = "stale"
	stateDegraded = "degraded"
	stateFailed   = "failed"
	stateWaiting  = "waiting"
	stateUnseen   = "unseen"
	stateUnknown  = "unknown"
)

const unseenMessage = "not yet seen by the driver since its start"

// volumeStatus is one line of status; its JSON is that of -o json.
type volumeStatus struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	Volume    string `json:"volume"`
	Node      string `json:"node,omitempty"`
	State     string `json:"state"`
	// Fetched is when the oldest object was read; AgeSeconds is its age by the clock of the node.
	Fetched      *time.Time       `json:"fetched,omitempty"`
	AgeSeconds   *int64           `json:"ageSeconds,omitempty"`
	Message      string           `json:"message,omitempty"`
	Certificates []cluster.Expiry `json:"certificates,omitempty"` // the soonest end first
	now          time.Time        // of the node
}

// runStatus shows the volumes of pods.
func runStatus(ctx context.Context, c command) (exitCode int, err error) {
	k := newKubeCommand(c)
	all := k.flags.BoolP("all-namespaces", "A", false, "the pods of all namespaces")
	selector := k.flags.StringP("selector", "l", "", "only pods with these labels, as in kubectl get")
	format := k.flags.StringP("output", "o", "table", "table or json")
	if code, err := k.parse(statusUsage); code != parsed {
		return code, err
	}
	names := k.flags.Args()
	switch {
	case *format != "table" && *format != "json":
		return exitUsage, fmt.Errorf("--output is table or json, not %q", *format)
	case len(names) > 0 && *selector != "":
		return exitUsage, errors.New("give names of pods or --selector")
	case len(names) > 0 && *all:
		return exitUsage, errors.New("names of pods are of one namespace; leave out --all-namespaces")
	}
	a, err := k.connect()
	if err != nil {
		return exitError, err
	}
	namespace := a.Namespace
	if *all {
		namespace = ""
	}
	pods, err := a.podsOf(ctx, namespace, *selector, names)
	if err != nil {
		return exitError, err
	}
	volumes := a.status(ctx, namespace, pods)
	if ctx.Err() != nil {
		return exitError, errInterrupted
	}
	if *format == "json" {
		err = writeStatusJSON(c.stdout, volumes, a.missing)
	} else {
		a.writeStatusTable(volumes, *all)
	}
	a.sayMissing()
	return statusCode(volumes), err
}

func statusCode(volumes []volumeStatus) int {
	for _, v := range volumes {
		switch v.State {
		case stateStale, stateFailing, stateDegraded, stateFailed:
			return exitError
		}
	}
	return exitOK
}

// podsOf returns the named pods, or those of the namespace with volumes of the driver.
func (a *asked) podsOf(ctx context.Context, namespace, selector string, names []string) (pods []cluster.Pod, err error) {
	for _, name := range names {
		p, err := a.pod(ctx, name)
		if err == nil && len(p.VolumesOf(a.driver)) == 0 {
			err = a.noVolume(p)
		}
		if err != nil {
			return nil, err
		}
		pods = append(pods, p)
	}
	if len(names) > 0 {
		return pods, nil
	}
	listed, err := a.Pods(ctx, namespace, selector)
	if err != nil {
		return nil, fmt.Errorf("the pods cannot be listed: %w", err)
	}
	for _, p := range listed {
		if len(p.VolumesOf(a.driver)) > 0 && !p.Ended() {
			pods = append(pods, p)
		}
	}
	return pods, nil
}

// status asks the events and the drivers of the nodes about the volumes of the pods.
func (a *asked) status(ctx context.Context, namespace string, pods []cluster.Pod) (volumes []volumeStatus) {
	if len(pods) == 0 {
		return nil
	}
	var group sync.WaitGroup
	var failures map[string]cluster.Event
	var eventsErr error
	group.Go(func() { failures, eventsErr = a.failures(ctx, namespace) })
	nodes := a.askDrivers(ctx, pods)
	group.Wait()
	if eventsErr != nil {
		a.miss("no errors of mounts are shown", eventsErr)
	}
	for _, p := range pods {
		for _, v := range p.VolumesOf(a.driver) {
			volumes = append(volumes, statusOf(p, v.Name, nodes[p.Spec.NodeName], failures))
		}
	}
	slices.SortStableFunc(volumes, func(x, y volumeStatus) int {
		return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Pod, y.Pod), cmp.Compare(x.Volume, y.Volume))
	})
	return volumes
}

// statusOf decides on the state of one volume. What the driver says counts more than an event, which may be older. Without the events it
// is not known whether a volume that is not mounted has failed.
func statusOf(p cluster.Pod, name string, node nodeAnswer, failures map[string]cluster.Event) volumeStatus {
	v := volumeStatus{Namespace: p.Metadata.Namespace, Pod: p.Metadata.Name, Volume: name, Node: p.Spec.NodeName, now: node.now}
	listed, seen := node.volumes[p.VolumeID(name)]
	_, why := failures[p.VolumeKey(name)].FailedMount()
	mounted := p.Status.Phase == "Running"
	switch {
	case seen:
		v.Fetched, v.Certificates, v.Message = listed.Fetched, listed.Certificates, listed.Message
		if listed.Fetched != nil {
			age := int64(node.now.Sub(*listed.Fetched) / time.Second)
			v.AgeSeconds = &age
		}
		v.State = stateOf(listed.Reason)
	case why != "" && !mounted:
		v.State, v.Message = stateFailed, why
	case p.Ended() || p.Metadata.DeletionTimestamp != nil:
		v.State, v.Message = stateWaiting, "the pod ends or has ended"
	case p.Spec.NodeName == "":
		v.State, v.Message = stateWaiting, "the pod has no node yet"
	case !node.answered:
		v.State = stateUnknown
	case mounted:
		v.State, v.Message = stateUnseen, unseenMessage
	case failures == nil:
		v.State = stateUnknown
	default:
		v.State = stateWaiting
	}
	return v
}

// stateOf is the state behind a reason of the driver.
func stateOf(reason string) string {
	switch reason {
	case "":
		return stateFresh
	case "Stale":
		return stateStale
	case "RefreshFailed":
		return stateFailing
	}
	return stateDegraded
}

// failures returns the last FailedMount event of each volume, by its key; nil if it returns an error.
func (a *asked) failures(ctx context.Context, namespace string) (map[string]cluster.Event, error) {
	events, err := a.FailedMounts(ctx, namespace)
	if err != nil {
		return nil, err
	}
	last := map[string]cluster.Event{}
	for _, e := range events {
		if before, ok := last[e.Key()]; !ok || !e.Time().Before(before.Time()) {
			last[e.Key()] = e
		}
	}
	return last, nil
}
