package sync_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// long is the long form of the suites, as in the module above.
var long = os.Getenv("KEYVAULT_CSI_LONG") != ""

// history follows all Secrets of a namespace from the first one on. A Secret is wrong if it is deleted, lacks a key, holds keys of two sets, or an
// older set than before.
type history struct {
	mu     sync.Mutex
	held   map[string]int // the number of the set, by Secret
	events int
	wrong  []string
}

// follow watches until the test ends.
func (n *space) follow(t *testing.T) *history {
	t.Helper()
	h := &history{held: map[string]int{}}
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+api.host+n.secrets()+"?watch=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer admin")
	answer, err := api.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { cancel(); <-ended })
	go func() {
		defer close(ended)
		defer answer.Body.Close()
		decoder := json.NewDecoder(answer.Body)
		for {
			var event struct {
				Type   string
				Object struct {
					Metadata struct{ Name string }
					Data     map[string][]byte
				}
			}
			if err := decoder.Decode(&event); err != nil {
				if ctx.Err() == nil && err != io.EOF {
					h.add("the watch: %v", err)
				}
				return
			}
			h.see(event.Type, event.Object.Metadata.Name, event.Object.Data)
		}
	}()
	return h
}

func (h *history) add(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wrong = append(h.wrong, fmt.Sprintf(format, args...))
}

func (h *history) see(kind, name string, data map[string][]byte) {
	first, second := string(data["first"]), string(data["second"])
	set, err := strconv.Atoi(strings.TrimPrefix(first, name+"-"))
	switch {
	case kind == "DELETED":
		h.add("%s was deleted", name)
	case err != nil || first != second:
		h.add("%s holds %q and %q", name, first, second)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if set < h.held[name] {
		h.wrong = append(h.wrong, fmt.Sprintf("%s went back from %d to %d", name, h.held[name], set))
	}
	h.held[name] = set
	h.events++
}

// behind returns an error unless all Secrets hold that set.
func (h *history) behind(secrets, set int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range secrets {
		if name := fmt.Sprintf("s%d", i); h.held[name] != set {
			return fmt.Errorf("%s holds %d, not %d", name, h.held[name], set)
		}
	}
	return nil
}

// TestRotatingAndKilled: many Secrets rotate while the program is killed at random instants. None is ever torn, empty, older or gone, and each
// holds the newest set in the end.
func TestRotatingAndKilled(t *testing.T) {
	t.Parallel()
	secrets, rotations, wait := 20, 30, 200*time.Millisecond
	if long {
		secrets, rotations, wait = 100, 600, time.Second
	}
	var names []string
	var config strings.Builder
	config.WriteString("secrets:\n")
	for i := range secrets {
		names = append(names, fmt.Sprintf("s%d", i))
		fmt.Fprintf(&config, "- {name: s%d, data: {first: s%d/first, second: s%d/second}}\n", i, i, i)
	}
	n := newSpace(t, names...)
	n.configure(t, config.String())
	write := func(set int) {
		var files []string
		for _, name := range names {
			value := fmt.Sprintf("%s-%d", name, set)
			files = append(files, name+"/first", value, name+"/second", value)
		}
		n.write(t, time.Now(), files...)
	}
	write(1)
	h := n.follow(t)
	p := n.start(t, api.host)
	defer func() { p.kill(syscall.SIGKILL) }()
	eventually(t, "the first set", func(context.Context) error { return h.behind(secrets, 1) })
	kills := 0
	for set := 2; set <= rotations; set++ {
		write(set)
		if rand.N(3) == 0 {
			pause(t, rand.N(wait))
			p.kill(syscall.SIGKILL)
			p = n.start(t, api.host)
			kills++
		}
		pause(t, wait)
	}
	eventually(t, "the last set", func(context.Context) error { return h.behind(secrets, rotations) })
	rss := p.rss(t)
	t.Logf("%d Secrets, %d rotations, %d kills, %d states seen, RSS %.1f MiB", secrets, rotations, kills, h.events, rss)
	for _, wrong := range h.wrong {
		t.Error(wrong)
	}
}

func pause(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

// rss returns the resident memory of the program in MiB.
func (p *program) rss(t *testing.T) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.command.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "VmRSS:" {
			kibibytes, _ := strconv.Atoi(fields[1]) // the kernel writes kB
			return float64(kibibytes) / 1024
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// TestMemory: the program takes at most 20 MiB, with one Secret and with a hundred, at rest and while they rotate.
func TestMemory(t *testing.T) {
	t.Parallel()
	for _, secrets := range []int{1, 100} {
		var names []string
		var config strings.Builder
		config.WriteString("secrets:\n")
		for i := range secrets {
			names = append(names, fmt.Sprintf("m%d", i))
			fmt.Fprintf(&config, "- {name: m%d, data: {key: m%d}}\n", i, i)
		}
		n := newSpace(t, names...)
		n.configure(t, config.String())
		value := func(name string, set int) string {
			return fmt.Sprintf("%s-%d-%s", name, set, strings.Repeat("v", 1000))
		}
		write := func(set int) {
			var files []string
			for _, name := range names {
				files = append(files, name, value(name, set))
			}
			n.write(t, time.Now(), files...)
		}
		write(0)
		p := n.run(t)
		p.awaitMetric(t, fmt.Sprintf(`keyvault_csi_sync_secrets{state="synced"} %d`, secrets))
		rest := p.rss(t)
		most := rest
		for set := range 30 {
			write(set + 1)
			// They are written in the order of the configuration.
			last := names[secrets-1]
			n.await(t, last, func(s *kubeSecret) error {
				most = max(most, p.rss(t))
				return holds("key", value(last, set+1))(s)
			})
		}
		if t.Logf("with %d Secrets the program takes %.1f MiB, while they rotate at most %.1f MiB", secrets, rest, most); most > 20 {
			t.Errorf("with %d Secrets the program takes %.1f MiB", secrets, most)
		}
	}
}
