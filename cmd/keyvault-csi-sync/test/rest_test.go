package sync_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"
)

// requests returns how many requests of each verb the API server had from keyvault-csi-sync in this namespace.
func (n *space) requests(t *testing.T) map[string]int {
	t.Helper()
	text, err := os.ReadFile(api.dir + "/audit.log")
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for line := range strings.Lines(string(text)) {
		var event struct {
			Verb string
			User struct{ Username string }
		}
		// The last line may be half written.
		if json.Unmarshal([]byte(line), &event) == nil && event.User.Username == "system:serviceaccount:"+n.name+":sync" {
			counts[event.Verb]++
		}
	}
	return counts
}

// There is one watch for each Secret. When the watches end, each begins once again, and no other request is sent.
func TestWatchesAreAllRequests(t *testing.T) {
	t.Parallel()
	const secrets = 20
	var names, files []string
	var config strings.Builder
	config.WriteString("secrets:\n")
	for i := range secrets {
		names, files = append(names, fmt.Sprintf("s%d", i)), append(files, fmt.Sprintf("s%d", i), fmt.Sprintf("value-of-s%d", i))
		fmt.Fprintf(&config, "- {name: s%d, data: {key: s%d}}\n", i, i)
	}
	n := newSpace(t, names...)
	n.configure(t, config.String())
	n.write(t, time.Now(), files...)
	link := newLink(t, api.host)
	p := n.runAt(t, link.host)
	p.awaitMetric(t, fmt.Sprintf(`keyvault_csi_sync_secrets{state="synced"} %d`, secrets))
	link.quiet(t)
	start := n.requests(t)
	if start["watch"] != secrets || start["patch"] != secrets {
		t.Errorf("the requests of the start are %v", start)
	}
	link.cut()
	link.mend()
	eventually(t, "the watches", func(context.Context) error {
		if now := n.requests(t); now["watch"] != 2*secrets {
			return fmt.Errorf("the requests are %v", now)
		}
		return nil
	})
	link.quiet(t)
	start["watch"] += secrets
	if after := n.requests(t); !maps.Equal(after, start) {
		t.Errorf("the requests are %v, want %v", after, start)
	}

	// What happens after that is noticed.
	n.patch(t, "s7", object{"stringData": object{"key": "changed"}})
	n.await(t, "s7", holds("key", "value-of-s7"))
}

// At rest nothing is sent.
func TestNoRequestsAtRest(t *testing.T) {
	t.Parallel()
	n := newSpace(t, "db")
	link := newLink(t, api.host)
	p := n.runOneAt(t, link.host)
	p.awaitMetric(t, `keyvault_csi_sync_secrets{state="synced"} 1`)
	n.await(t, "db", holds("key", "of-the-vault"))
	before := link.quiet(t)
	// The loop runs every 30 s. HTTP/2 has a ping each 30 s, of a hundred bytes with TLS; a request of ours has more than three
	// hundred.
	ctx, cancel := context.WithTimeout(t.Context(), 45*time.Second)
	defer cancel()
	<-ctx.Done()
	if sent := link.sent.Load() - before; sent > 250 {
		t.Errorf("%d bytes were sent at rest", sent)
	}
}
