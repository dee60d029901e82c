package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/keyvault-csi/keyvault-csi/cmd/kvcsi/internal/cluster"
)

// nodeAnswer is what the driver of a node says.
type nodeAnswer struct {
	answered bool
	now      time.Time
	volumes  map[string]cluster.ListedVolume // by id
}

// atOnce bounds the drivers that are asked at the same time. A driver that has not answered after a tenth of the timeout is no longer
// counted: otherwise a thousand drivers that hang would take half an hour.
const atOnce = 16

// askDrivers asks the drivers of the nodes of the pods.
func (a *asked) askDrivers(ctx context.Context, pods []cluster.Pod) map[string]nodeAnswer {
	wanted := map[string]bool{}
	for _, p := range pods {
		if p.Spec.NodeName != "" {
			wanted[p.Spec.NodeName] = true
		}
	}
	answers := map[string]nodeAnswer{}
	if len(wanted) == 0 {
		return answers
	}
	const lost = "no age, no refresh errors and no certificates are shown"
	drivers, err := a.drivers(ctx)
	if err != nil {
		a.miss(lost, err)
		return answers
	}
	var mu sync.Mutex
	var group sync.WaitGroup
	slots := semaphore.NewWeighted(atOnce)
	failed := map[string]error{}
	for node := range wanted {
		d, there := drivers[node]
		if !there || slots.Acquire(ctx, 1) != nil {
			continue
		}
		leave := sync.OnceFunc(func() { slots.Release(1) })
		slow := time.AfterFunc(a.Timeout()/10, leave)
		group.Go(func() {
			defer leave()
			defer slow.Stop()
			listing, err := a.Volumes(ctx, d)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed[node] = err
				return
			}
			answer := nodeAnswer{true, listing.Now, map[string]cluster.ListedVolume{}}
			for _, v := range listing.Volumes {
				answer.volumes[v.ID] = v
			}
			answers[node] = answer
		})
	}
	group.Wait()
	for node := range wanted {
		err := failed[node]
		switch {
		case answers[node].answered:
		case errors.Is(err, cluster.ErrForbidden): // of every node
			a.miss(lost, fmt.Errorf("ports of the driver's pods cannot be forwarded (create and get on pods/portforward): %w", withoutPod(err)))
		case err != nil:
			a.miss(lost+" of the node "+node, fmt.Errorf("the driver there does not answer: %w", err))
		default:
			a.miss(lost+" of the node "+node, errors.New("no pod of the driver is there"))
		}
	}
	slices.Sort(a.missing)
	return answers
}
