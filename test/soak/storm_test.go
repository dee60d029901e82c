package soak_test

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// login stands for Entra ID among the names of vaults.
const login = "login"

// trouble knows when which vault, or the login, was last disturbed.
type trouble struct {
	mu     sync.Mutex
	active map[string]int
	last   map[string]time.Time
	all    time.Time // everything
}

func (t *trouble) begin(where string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.active[where]++
}

func (t *trouble) end(where string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.active[where]--
	t.last[where] = time.Now()
}

// touch counts as a disturbance of everything that is over.
func (t *trouble) touch() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = time.Now()
}

// of says when one of the vaults or the login was last disturbed, and whether one is now.
func (t *trouble) of(vaults []string) (ended time.Time, now bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ended, now = latest(t.all, t.last[login]), t.active[login] > 0
	for _, v := range vaults {
		ended, now = latest(ended, t.last[v]), now || t.active[v] > 0
	}
	return ended, now
}

// mishap is a kind of fault of a vault or of the login.
type mishap struct {
	name  string
	login bool
	fault devcloud.Fault
	deny  bool // takes the service principal's rights away instead
}

func mishaps() []mishap {
	var all []mishap
	for _, login := range []bool{false, true} {
		where := ""
		if login {
			where = "login: "
		}
		for _, m := range []mishap{
			{name: "429 with Retry-After", fault: devcloud.Fault{Action: devcloud.Throttle, RetryAfter: 2 * time.Second}},
			{name: "429 without", fault: devcloud.Fault{Action: devcloud.Throttle}},
			{name: "500", fault: devcloud.Fault{Action: devcloud.Fail, Status: http.StatusInternalServerError}},
			{name: "503 with Retry-After", fault: devcloud.Fault{Action: devcloud.Fail, RetryAfter: time.Second}},
			{name: "503 without", fault: devcloud.Fault{Action: devcloud.Fail}},
			{name: "slow", fault: devcloud.Fault{Action: devcloud.Delay, Delay: 800 * time.Millisecond}},
			{name: "hang", fault: devcloud.Fault{Action: devcloud.Hang}},
			{name: "cut body", fault: devcloud.Fault{Action: devcloud.Cut, After: 20}},
			{name: "malformed JSON", fault: devcloud.Fault{Action: devcloud.Malformed}},
			{name: "reset", fault: devcloud.Fault{Action: devcloud.Reset}},
		} {
			m.name, m.login = where+m.name, login
			all = append(all, m)
		}
	}
	return append(all,
		mishap{name: "401 without a challenge", fault: devcloud.Fault{Action: devcloud.Challenge}},
		mishap{name: "strange challenge", fault: devcloud.Fault{Action: devcloud.Challenge, Text: `Bearer authorization="https://login.example.com/x"`}},
		mishap{name: "403 for one identity", deny: true},
	)
}

// storms lets faults come and go until ctx ends: two to four at a time, of every kind in turn.
func (s *site) storms(ctx context.Context) {
	var kinds []mishap
	for s.pauseCalm(ctx) {
		s.stormCount++
		storm, over := context.WithTimeout(ctx, s.form.storm)
		var faults sync.WaitGroup
		for range 2 + rand.N(3) {
			if len(kinds) == 0 {
				kinds = s.kinds()
			}
			kind := kinds[0]
			kinds = kinds[1:]
			s.faults[kind.name]++
			faults.Go(func() { s.disturb(storm, kind) })
		}
		faults.Wait()
		over()
		if s.form.aged && s.name == "killed" {
			s.kill(ctx)
		}
	}
}

func (s *site) pauseCalm(ctx context.Context) bool {
	if s.stormCount == 0 {
		return pause(ctx, s.form.calm/2)
	}
	return pause(ctx, s.form.calm)
}

func (s *site) kinds() []mishap {
	all := mishaps()
	if s.form.aged && s.name != "killed" {
		all = []mishap{all[5]} // delays: nothing that makes the daemon leave a vault alone
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// disturb lets one fault last for a part of the storm.
func (s *site) disturb(storm context.Context, m mishap) {
	if !pause(storm, rand.N(s.form.storm/2)) {
		return
	}
	where := append([]string{bulk}, fullVaults...)[rand.N(len(fullVaults)+1)]
	m.fault.Service, m.fault.Host = devcloud.ServiceVault, where
	if m.login {
		where = login
		m.fault.Service, m.fault.Host = devcloud.ServiceLogin, ""
	}
	s.trouble.begin(where)
	defer s.trouble.end(where)
	if m.deny {
		vault := s.books[where].vault
		vault.Deny(node.PrincipalID)
		defer vault.Grant(node.PrincipalID)
		pause(storm, s.form.storm/4+rand.N(s.form.storm))
		return
	}
	stop, err := s.n.Cloud.Inject(m.fault)
	if err != nil {
		s.problem("%s: %v", m.name, err)
		return
	}
	defer stop()
	pause(storm, s.form.storm/4+rand.N(s.form.storm))
}
