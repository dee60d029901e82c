package fleet_test

import (
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/test/fleet"
)

// The short form: a fleet below the limit is mounted in the time that the vault needs, no volume gets old, and all nodes have the same.
func TestBelowTheLimit(t *testing.T) {
	t.Parallel()
	s := fleet.Scenario{Name: "100 nodes", Nodes: 100, Objects: 50, Identities: 2, Length: 8 * time.Minute, Rotation: 4 * time.Minute, Seed: 1}
	r := simulate(t, s)
	if r.Missing != 0 || r.Waiting != 0 {
		t.Errorf("%d volumes were never mounted, %d never had the new value", r.Missing, r.Waiting)
	}
	if all := fleet.At(r.Mounts, 0, 1); all > 3*r.Ideal() {
		t.Errorf("the last volume was mounted after %s, ideal are %s", all, r.Ideal())
	}
	if oldest := fleet.At(r.Ages, 0, 1); oldest > r.Bound() {
		t.Errorf("an object was %s old, at most %s are allowed", oldest, r.Bound())
	}
	if r.Refused() > .02 {
		t.Errorf("%.1f %% of the requests after the first minute were refused", 100*r.Refused())
	}
	if r.Jain() < .95 {
		t.Errorf("fairness %.3f, at least 0.95 is required", r.Jain())
	}
	suite.Verdict(t, "100 nodes below the limit: the last mounted after %s, the oldest object %s", fleet.At(r.Mounts, 0, 1), fleet.At(r.Ages, 0, 1))
}

// The short form of 5,000 nodes: 200 nodes at a vault with a twenty-fifth of the limit, so that each has the same share. The bounds are the
// goals of docs/performance.md and a fifth more. In small windows chance counts for more, so that the refused part is 2.3 % and not below 2 %.
func TestAboveTheLimit(t *testing.T) {
	t.Parallel()
	s := fleet.Scenario{
		Name: "5,000 nodes, scaled to 200", Nodes: 200, Objects: 100, Identities: 2, Limit: fleet.Limit / 25,
		Length: time.Hour, Rotation: 40 * time.Minute, Seed: 1,
	}
	r := simulate(t, s)
	t.Logf("\n%s%s", fleet.Head, r.Row())
	const more = 1.2
	if used := r.Used(); used < .9/more {
		t.Errorf("%.1f %% of the limit is used", 100*used)
	}
	if refused := r.Refused(); refused > .023*more {
		t.Errorf("%.1f %% of the requests after the first minute were refused", 100*refused)
	}
	if jain := r.Jain(); jain < .95/more {
		t.Errorf("fairness %.3f", jain)
	}
	if most := fleet.At(r.Mounts, r.Missing, .99); most < 0 || most.Seconds() > 3*more*r.Ideal().Seconds() {
		t.Errorf("99 %% of the volumes were mounted after %s, ideal are %s", most, r.Ideal())
	}
	// The goal of 1.5 times the ideal is not met, see docs/performance.md; it is about twice the ideal.
	if oldest := fleet.At(r.Ages, 0, .99); oldest.Seconds() > 2*more*r.Ideal().Seconds() {
		t.Errorf("an object was %s old, ideal are %s", oldest, r.Ideal())
	}
	suite.Verdict(t, "5,000 nodes with 100 objects at a vault, scaled: %.0f %% of its limit used, %.1f %% refused, fairness %.2f",
		100*r.Used(), 100*r.Refused(), r.Jain())
}

// Polling has no client, so it is fast at any size.
func TestPollingAboveTheLimit(t *testing.T) {
	t.Parallel()
	r := fleet.Scenario{Name: "polling", Nodes: 5000, Objects: 100, Identities: 2, Length: 10 * time.Minute, Seed: 1}.Poll()
	again := fleet.Scenario{Name: "polling", Nodes: 5000, Objects: 100, Identities: 2, Length: 10 * time.Minute, Seed: 1}.Poll()
	if r.Row() != again.Row() {
		t.Errorf("the same seed gives\n%sand\n%s", r.Row(), again.Row())
	}
	if r.Refused() < .5 {
		t.Errorf("polling is refused %.1f %%: the vault does not enforce its limit", 100*r.Refused())
	}
}

// What happens to the fleet happens to the one that polls too: each event makes another row.
func TestPollingMeetsTheEvents(t *testing.T) {
	t.Parallel()
	calm := fleet.Scenario{Nodes: 10, Objects: 20, Identities: 2, Limit: 40, Length: 10 * time.Minute, Seed: 1} // polls take long
	outage, upgrade, other := calm, calm, calm
	outage.Outage, outage.OutageOf = 3*time.Minute, 5*time.Minute
	upgrade.Upgrade, upgrade.Rollout = 2*time.Minute, 2*time.Minute
	other.Others = .8
	row := calm.Poll().Row()
	for name, s := range map[string]fleet.Scenario{"outage": outage, "upgrade": upgrade, "others": other} {
		if s.Poll().Row() == row {
			t.Errorf("with the event %s the row is the same: %s", name, row)
		}
	}
	if got, without := fleet.At(outage.Poll().Ages, 0, 1), fleet.At(calm.Poll().Ages, 0, 1); got == without {
		t.Errorf("the oldest object is %s old with and without the outage", got)
	}
}

// TestFleets prints the table of docs/performance.md.
func TestFleets(t *testing.T) {
	out := os.Getenv("KEYVAULT_CSI_FLEET_OUT")
	if out == "" {
		t.Skip("make fleet runs it: the large fleets take many minutes")
	}
	for _, s := range fleet.Scenarios() {
		t.Run(s.Name, func(t *testing.T) {
			began := time.Now()
			r := simulate(t, s)
			p := s.Poll()
			t.Logf("%.0f s\n%s%s%s", time.Since(began).Seconds(), fleet.Head, r.Row(), p.Row())
			appendTo(t, out, r.Row()+p.Row())
		})
	}
}

func appendTo(t *testing.T, file, text string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func simulate(t *testing.T, s fleet.Scenario) (r *fleet.Report) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var err error
		if r, err = s.Run(); err != nil {
			t.Fatal(err)
		}
	})
	return r
}
