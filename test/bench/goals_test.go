package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

func TestMain(m *testing.M) { os.Exit(mountns.Main(m)) }

// tiny is a run that shows that everything works. Its times have no meaning.
var tiny = size{
	rounds: 2, slowRounds: 1, slice: time.Millisecond, volumes: []int{0, 3}, starts: 1, burst: 8, volumeRounds: 2, own: 2,
	firsts: 1, settle: time.Millisecond, publishes: 20, identities: 3, rotated: 9,
	throttle: throttledStart{identities: 2, pods: 6, secrets: 2, limit: 12, window: 4 * time.Second, underWay: 3 * time.Second},
}

// The whole program, with the real daemon: every goal is measured, and counts must have exact values.
func TestATinyRun(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()) // the run does not remove the folders of its floors
	var out strings.Builder
	b := newBench(tiny, &out)
	if err := b.sections(t.Context(), ""); err != nil {
		t.Fatalf("%v after:\n%s", err, out.String())
	}
	for g, name := range goalNames {
		if _, ok := b.goals[goal(g)]; !ok && goal(g) != goalMemory { // which needs its 500 volumes
			t.Errorf("no figure for: %s", name[0])
		}
	}
	for g, want := range map[goal]string{
		goalBurst:    "10 vault requests, 8 tokens; and 1 challenge (401), the vault's first (8 pods)",
		goalRotation: "30 vault requests; inside the interval 0 (9 volumes)",
	} {
		if got := b.goals[g]; got.measured != want || !got.reached {
			t.Errorf("%s: %+v, want reached with %q", goalNames[g][0], got, want)
		}
	}
	if got := b.goals[goalThrottled].measured; !strings.Contains(got, "; 0 too early, ") || strings.HasSuffix(got, " 0 were refused") {
		t.Errorf("the throttled start: %q", got)
	}
	for _, name := range []string{"1 secret", "50 secrets", "1 certificate", "login 20 ms away", "0 again", "with the limit"} {
		if !strings.Contains(out.String(), name) {
			t.Errorf("%q is missing in:\n%s", name, out.String())
		}
	}
}

// A build is compared with itself.
func TestAgainst(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	binary, err := node.DaemonBinary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := newBench(tiny, &out).against(t.Context(), binary); err != nil {
		t.Fatalf("%v after:\n%s", err, out.String())
	}
	for _, row := range []string{
		"memory after the start, MiB", "50 secrets, publish p50 ms", "1 certificate, key and chain, unpublish p50 ms",
		"16 callers, CPU s for 1,000 publish + unpublish",
	} {
		if !strings.Contains(out.String(), row) {
			t.Errorf("%q is missing in:\n%s", row, out.String())
		}
	}
}

func TestGoals(t *testing.T) {
	t.Parallel()
	v := results{}
	v.record(goalWarm, false, "%.1f × (1.0 ms)", 3.5)
	v.record(goalThrottled, true, "1.1 ×; 0 too early")
	v[goalCold] = result{measured: "the machine has no clock", open: true}
	var out strings.Builder
	v.write(&out)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2+int(goals) || lines[0] != "Goals" {
		t.Fatalf("%d lines:\n%s", len(lines), out.String())
	}
	for i, want := range map[int][2]string{
		2:              {"  missed   publish of ten cached objects", "2.25 ×                                     3.5 × (1.0 ms)"},
		3:              {"  -        publish of ten objects, warm client", "not measured in this run"},
		4:              {"  -        cold everything", "the machine has no clock"},
		1 + int(goals): {"  reached  110 pods", "1.1 ×; 0 too early"},
	} {
		if !strings.HasPrefix(lines[i], want[0]) || !strings.HasSuffix(lines[i], want[1]) {
			t.Errorf("line %d is %q, want %q … %q", i, lines[i], want[0], want[1])
		}
	}
	rows := strings.Split(v.markdown(), "\n")
	want := "| publish of ten cached objects at the socket, against the floor (mount, ten files, unmount) and a Probe | 2.25 × | 3.5 × (1.0 ms) | missed |"
	if rows[0] != "| what | at most | measured |  |" || rows[1] != "| --- | --- | --- | --- |" || rows[2] != want {
		t.Errorf("%s", v.markdown())
	}
}

func TestIdeal(t *testing.T) {
	t.Parallel()
	c := throttledStart{identities: 20, pods: 110, secrets: 3, limit: 5000, window: 10 * time.Second}
	for _, test := range []struct {
		limit int
		want  time.Duration
	}{
		{5000, 10*time.Second + 1600*time.Millisecond}, // 1,600 of 6,600 are left for the second window
		{6600, 6600 * time.Millisecond},
		{3300, 10*time.Second + 3300*time.Millisecond},
		{3000, 20*time.Second + 600*time.Millisecond},
	} {
		c.limit = test.limit
		if got := c.ideal(6600 * time.Millisecond); got != test.want {
			t.Errorf("with a limit of %d: %s, want %s", test.limit, got, test.want)
		}
	}
}

// vaultRequest is a request to a vault, with the times after a common start.
func vaultRequest(received, answered time.Duration, status int) devcloud.Request {
	start := time.Unix(1_800_000_000, 0)
	r := devcloud.Request{Service: devcloud.ServiceVault, Time: start.Add(received), Answered: start.Add(answered), Status: status}
	if status == http.StatusTooManyRequests {
		r.RetryAfter = 2 * time.Second
	}
	return r
}

func TestEarlyRequests(t *testing.T) {
	t.Parallel()
	const millisecond = time.Millisecond
	refusal := vaultRequest(10*millisecond, 11*millisecond, http.StatusTooManyRequests)
	login := vaultRequest(time.Second, 1001*millisecond, http.StatusOK)
	login.Service = devcloud.ServiceLogin
	for _, test := range []struct {
		name                 string
		others               []devcloud.Request
		refused, sent, early int
	}{
		{"nothing after it", nil, 1, 0, 0},
		{"before it was answered", []devcloud.Request{vaultRequest(10*millisecond, 12*millisecond, http.StatusOK)}, 1, 0, 0},
		{"under way", []devcloud.Request{vaultRequest(12*millisecond, 20*millisecond, http.StatusTooManyRequests)}, 2, 1, 0},
		{"too early", []devcloud.Request{vaultRequest(time.Second, 1001*millisecond, http.StatusOK)}, 1, 0, 1},
		{
			"too early after the first, though not after the second",
			[]devcloud.Request{
				vaultRequest(180*millisecond, 181*millisecond, http.StatusTooManyRequests),
				vaultRequest(300*millisecond, 301*millisecond, http.StatusOK),
			},
			2, 1, 1,
		},
		{"just in time", []devcloud.Request{vaultRequest(2011*millisecond, 2012*millisecond, http.StatusOK)}, 1, 0, 0},
		{"a login, which nobody has throttled", []devcloud.Request{login}, 1, 0, 0},
	} {
		refused, sent, early := earlyRequests(append([]devcloud.Request{refusal}, test.others...), 200*millisecond)
		if refused != test.refused || sent != test.sent || early != test.early {
			t.Errorf("%s: %d refused, %d under way, %d too early; want %d, %d, %d",
				test.name, refused, sent, early, test.refused, test.sent, test.early)
		}
	}
}

func TestChain(t *testing.T) {
	t.Parallel()
	open := vaultRequest(50, 0, 0)
	open.Answered = time.Time{}
	for _, test := range []struct {
		name string
		all  []devcloud.Request
		want int
	}{
		{"none", nil, 0},
		{"at the same time", []devcloud.Request{vaultRequest(0, 20, 200), vaultRequest(1, 21, 200), vaultRequest(2, 22, 200)}, 1},
		{"one after another", []devcloud.Request{vaultRequest(0, 20, 200), vaultRequest(21, 40, 200), vaultRequest(41, 60, 200)}, 3},
		{
			"a slow one beside two fast ones",
			[]devcloud.Request{vaultRequest(0, 100, 200), vaultRequest(1, 20, 200), vaultRequest(21, 40, 200)},
			2,
		},
		{"one that was never answered", []devcloud.Request{vaultRequest(0, 20, 200), open}, 1},
	} {
		if got := chain(test.all); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
}

func TestArguments(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ args, want string }{
		{"-only first,last", `-only: there is no section "last", only start, latency, calls, first, rotation, throttled, throughput, volumes, provider`},
		{"-only first -doc some.md", "-doc needs a whole run, without -only"},
		{"-against old -only first", "-against is a run of its own, without -only, -doc and -svg"},
	} {
		if _, err := run(t.Context(), strings.Fields(test.args), io.Discard); err == nil || err.Error() != test.want {
			t.Errorf("%s: %v, want %s", test.args, err, test.want)
		}
	}
}

func TestFill(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "performance.md")
	const before = "# Title\n\n<!-- bench:goals -->\nold\n<!-- bench:goals end -->\nbetween\n<!-- bench:run -->\n<!-- bench:run end -->\nend\n"
	if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time changes nothing
		if err := fill(path, map[string]string{"goals": "| new |\n", "run": "text\n"}); err != nil {
			t.Fatal(err)
		}
	}
	want := "# Title\n\n<!-- bench:goals -->\n\n| new |\n\n<!-- bench:goals end -->\nbetween\n<!-- bench:run -->\n\ntext\n\n<!-- bench:run end -->\nend\n"
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	err = fill(path, map[string]string{"other": ""})
	if err == nil || !strings.Contains(err.Error(), `has no lines "<!-- bench:other -->" and "<!-- bench:other end -->"`) {
		t.Errorf("without its markers: %v", err)
	}
}

// The document must have the markers of all blocks.
func TestTheDocumentHasItsMarkers(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "performance.md")
	if err := os.WriteFile(path, doc, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := fill(path, map[string]string{"goals": "", "run": ""}); err != nil {
		t.Error(err)
	}
}
