// Command bench measures the driver on a node: the daemon as a process, a kubelet at its socket, real mounts, and a dev cloud on loopback
// that answers at once or after a delay. Beside each value is the floor, which is plain system calls for the same files. Both are
// measured alternately in the same run, so that their ratio is meaningful on a busy machine too. `make bench` runs it, and
// docs/performance.md describes the output.
//
// The sections are the functions in [sections]; a new one is a function that prints a table. A new row of the latencies is one element of
// [latencyRows]. The [goalNames] are printed at the end with their results. A missed goal is not an error.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code, err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		code = 1
	}
	os.Exit(code)
}

// bench is the state that the sections share.
type bench struct {
	size
	out   io.Writer
	plots *plots
	goals results
}

// size is the size of a run.
//
// The daemon is at rest when it has dropped values that no call can use: a first mount uses values up to 10 s old (--mount-max-age), the
// daemon checks every 10 s, and giving memory back takes up to 5 s. The kubelet calls for a volume every 60 to 90 s. A quick run does not
// wait for the rest.
type size struct {
	rounds       int           // of latencies without a delay in the vault
	slowRounds   int           // with a delay
	slice        time.Duration // of a throughput; three for each number of callers
	volumes      []int
	starts       int // of the daemon
	burst        int // pods that start at once
	volumeRounds int // rounds with each number of volumes
	own          int // volumes without common objects

	firsts          int           // starts, each with a first publish
	settle          time.Duration // before the memory is read
	rest            time.Duration // before the memory at rest is read
	publishes       int           // in a row, for the goals of throughput and CPU
	identities      int           // of the rotated volumes
	rotated         int           // volumes
	mounts          int           // pods of the Secrets Store CSI Driver
	waitForRotation bool          // else the volumes are made older
	throttle        throttledStart
}

var (
	quick = size{
		rounds: 100, slowRounds: 10, slice: 150 * time.Millisecond, volumes: []int{0, 100, 500}, starts: 3, burst: 50, volumeRounds: 100, own: 100,
		firsts: 3, settle: 500 * time.Millisecond, publishes: 300, identities: 20, rotated: 200, mounts: 30,
		throttle: throttledStart{identities: 5, pods: 40, secrets: 3, limit: 500, window: 2 * time.Second, underWay: 200 * time.Millisecond},
	}
	full = size{
		rounds: 1000, slowRounds: 60, slice: time.Second, volumes: []int{0, 100, 500, 2000}, starts: 9, burst: 200, volumeRounds: 500, own: 500,
		firsts: 9, settle: time.Second, rest: 25 * time.Second, publishes: 1000, identities: 20, rotated: 1000, mounts: 100, waitForRotation: true,
		throttle: throttledStart{identities: 20, pods: 110, secrets: 3, limit: 5000, window: 10 * time.Second, underWay: 200 * time.Millisecond},
	}
)

func newBench(s size, out io.Writer) *bench {
	return &bench{size: s, out: out, plots: &plots{}, goals: results{}}
}

// sections, in the order of the output.
var sections = []struct {
	name string
	run  func(*bench, context.Context) error
}{
	{"start", (*bench).start},
	{"latency", (*bench).latency},
	{"calls", (*bench).calls},
	{"first", (*bench).first},
	{"rotation", (*bench).rotation},
	{"throttled", (*bench).throttled},
	{"throughput", (*bench).throughput},
	{"volumes", (*bench).manyVolumes},
	{"provider", (*bench).provider},
}

func run(ctx context.Context, args []string, out io.Writer) (exitCode int, err error) {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	isQuick := fs.Bool("quick", false, "fewer rounds and smaller numbers: about 30 seconds instead of three to five minutes, and rougher")
	only := fs.String("only", "", "comma-separated `sections` to run: "+sectionNames())
	before := fs.String("against", "", "`file` of an earlier build of the daemon: only compare this one with it, alternately")
	svg := fs.String("svg", "", "`folder` to write plots to, as SVG")
	doc := fs.String("doc", "", "Markdown `file` to write the goals and the text of the run to, between its markers")
	fleets := fs.String("fleets", "", "Markdown `file` with the table of make fleet, to write its plots too")
	if err := fs.Parse(args); err != nil {
		return 2, err
	}
	if *doc != "" && *only != "" {
		return 2, errors.New("-doc needs a whole run, without -only")
	}
	if *before != "" && *only+*doc+*svg != "" {
		return 2, errors.New("-against is a run of its own, without -only, -doc and -svg")
	}
	if err := checkSections(*only); err != nil {
		return 2, err
	}
	if !mountns.Inside() {
		return mountns.Rerun(ctx)
	}
	b := newBench(full, out)
	if *isQuick {
		b.size = quick
	}
	// The cloud and the kubelet run in this process, on the same CPUs as the daemon. Less garbage collection here disturbs the measured
	// daemon less.
	debug.SetGCPercent(400)
	remove, err := inMemory()
	if err != nil {
		return 1, err
	}
	defer remove()
	if *before != "" {
		if err := b.against(ctx, *before); err != nil {
			return 1, fmt.Errorf("against %s: %w", *before, err)
		}
		return 0, nil
	}
	var text bytes.Buffer
	b.out = io.MultiWriter(out, &text)
	if err := b.sections(ctx, *only); err != nil {
		return 1, err
	}
	b.goals.write(out) // last, as the summary
	if *fleets != "" {
		if err := b.plots.fleets(*fleets); err != nil {
			return 1, err
		}
	}
	if *svg != "" {
		if err := b.plots.write(*svg); err != nil {
			return 1, err
		}
	}
	if *doc != "" {
		return 0, fill(*doc, map[string]string{
			"goals": b.goals.markdown(), "run": "```text\n" + text.String() + "```\n",
		})
	}
	return 0, nil
}

func sectionNames() string {
	names := make([]string, 0, len(sections))
	for _, s := range sections {
		names = append(names, s.name)
	}
	return strings.Join(names, ", ")
}

func checkSections(only string) error {
	for name := range strings.SplitSeq(only, ",") {
		if name != "" && !strings.Contains(", "+sectionNames()+",", " "+name+",") {
			return fmt.Errorf("-only: there is no section %q, only %s", name, sectionNames())
		}
	}
	return nil
}

func (b *bench) sections(ctx context.Context, only string) error {
	started := time.Now()
	if err := b.machine(ctx); err != nil {
		return err
	}
	for _, s := range sections {
		if only != "" && !strings.Contains(","+only+",", ","+s.name+",") {
			continue
		}
		if err := s.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	fmt.Fprintf(b.out, "\n%.0f s; load at the end %s\n", time.Since(started).Seconds(), load())
	return nil
}

// inMemory puts all temporary folders on a tmpfs. On a disk, the journal needs more time for the folder of a target than the kernel for the
// whole volume.
func inMemory() (remove func(), err error) {
	dir, err := os.MkdirTemp("", "kvbench")
	if err != nil {
		return nil, err
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
		_ = os.Remove(dir)
		return nil, fmt.Errorf("mount a tmpfs at %s: %w", dir, err)
	}
	return func() {
		_ = syscall.Unmount(dir, syscall.MNT_DETACH)
		_ = os.Remove(dir)
	}, os.Setenv("TMPDIR", dir)
}
