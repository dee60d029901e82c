package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkPodStart measures the time from the creation of a pod to the start of its main process, without and with the driver. A round starts
// one pod of each kind, one after the other, so that the conditions are the same. It prints a table. The node and this process must have
// the same clock, as in a cluster of test/cluster.
func BenchmarkPodStart(b *testing.B) {
	e := setUp(b)
	e.installDriver(b)
	near, far := e.newVault(b), e.newVault(b)
	e.admin(b, "/faults", object{"action": "delay", "host": far.name, "delay": "20ms"})
	objects := func(v vault, count int) func(round int) volume {
		return func(round int) volume {
			// New names, which are in no cache.
			var yaml strings.Builder
			for i := range count {
				name := fmt.Sprintf("turn-%d-of-%d-%d", round, count, i)
				v.set(b, name, "value of "+name)
				fmt.Fprintf(&yaml, "- secret: %s\n", name)
			}
			return volume{attributes: v.objects(yaml.String())}
		}
	}
	kinds := []struct {
		name   string
		volume func(round int) volume
		took   []time.Duration
	}{
		{name: "emptyDir", volume: func(int) volume { return volume{emptyDir: true} }},
		{name: "emptyDir and a no-op init container", volume: func(int) volume { return volume{emptyDir: true, init: true} }},
		{name: "1 object, vault at 0 ms", volume: objects(near, 1)},
		{name: "10 objects, vault at 0 ms", volume: objects(near, 10)},
		{name: "1 object, vault at 20 ms", volume: objects(far, 1)},
		{name: "10 objects, vault at 20 ms", volume: objects(far, 10)},
	}
	for round := 0; b.Loop(); round++ {
		for i := range kinds {
			took, err := e.timeStart(b, kinds[i].volume(round))
			if err != nil {
				b.Fatal(err)
			}
			if round > 0 { // the first round logs in and warms up
				kinds[i].took = append(kinds[i].took, took)
			}
		}
	}
	if len(kinds[0].took) == 0 {
		b.Fatal("give more than one round: -test.benchtime=21x")
	}
	fmt.Printf("\nfrom the creation of a pod to its main process, in ms, %d pods each\n\n", len(kinds[0].took))
	fmt.Printf("%-40s %6s %6s %6s %6s %6s\n", "", "min", "p25", "p50", "p75", "max")
	for _, kind := range kinds {
		slices.Sort(kind.took)
		at := func(quarter int) int64 { return kind.took[(len(kind.took)-1)*quarter/4].Milliseconds() }
		fmt.Printf("%-40s %6d %6d %6d %6d %6d\n", kind.name, at(0), at(1), at(2), at(3), at(4))
	}
}

// timeStart runs one pod and deletes it.
func (e *env) timeStart(b *testing.B, v volume) (time.Duration, error) {
	b.Helper()
	p := e.newPod("bench")
	manifest := p.manifest(v)
	created := time.Now()
	if err := e.call(b.Context(), http.MethodPost, "/api/v1/namespaces/"+namespace+"/pods", manifest, nil); err != nil {
		return 0, err
	}
	p.awaitRunning(b)
	var started string
	if err := p.ask(b.Context(), "/started", &started); err != nil {
		return 0, err
	}
	_, clock, _ := strings.Cut(started, " ")
	nanoseconds, err := strconv.ParseInt(clock, 10, 64)
	if err != nil {
		return 0, err
	}
	if err := e.call(b.Context(), http.MethodDelete, p.path(""), nil, nil); err != nil {
		return 0, err
	}
	eventually(b, "the pod's end", p.gone)
	return time.Unix(0, nanoseconds).Sub(created), nil
}
