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

// login is the name of Entra ID beside the names of vaults.
const login = "login"

// faultLog records when each vault, and the login, had faults.
type faultLog struct {
	mu     sync.Mutex
	active map[string]int
	last   map[string]time.Time
	all    time.Time // everything
}

func (t *faultLog) begin(where string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.active[where]++
}

func (t *faultLog) end(where string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.active[where]--
	t.last[where] = time.Now()
}

// touch records a short fault of everything.
func (t *faultLog) touch() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = time.Now()
}

// of returns when the last fault of the vaults or the login ended, and whether one of them has a fault now.
func (t *faultLog) of(vaults []string) (ended time.Time, now bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ended, now = latest(t.all, t.last[login]), t.active[login] > 0
	for _, v := range vaults {
		ended, now = latest(ended, t.last[v]), now || t.active[v] > 0
	}
	return ended, now
}

// faultKind is a fault of a vault or of the login.
type faultKind struct {
	name  string
	login bool
	fault devcloud.Fault
	deny  bool // removes the service principal's permissions instead
}

func faultKinds() []faultKind {
	var all []faultKind
	for _, login := range []bool{false, true} {
		where := ""
		if login {
			where = "login: "
		}
		for _, m := range []faultKind{
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
		faultKind{name: "401 without a challenge", fault: devcloud.Fault{Action: devcloud.Challenge}},
		faultKind{name: "strange challenge", fault: devcloud.Fault{Action: devcloud.Challenge, Text: `Bearer authorization="https://login.example.com/x"`}},
		faultKind{name: "403 for one identity", deny: true},
	)
}

// injectFaults injects faults periodically until ctx ends: two to four at a time, of every kind.
func (s *testNode) injectFaults(ctx context.Context) {
	var kinds []faultKind
	for s.pauseCalm(ctx) {
		s.faultCount++
		faulty, over := context.WithTimeout(ctx, s.form.faulty)
		var faults sync.WaitGroup
		for range 2 + rand.N(3) {
			if len(kinds) == 0 {
				kinds = s.kinds()
			}
			kind := kinds[0]
			kinds = kinds[1:]
			s.faults[kind.name]++
			faults.Go(func() { s.injectFault(faulty, kind) })
		}
		faults.Wait()
		over()
		if s.form.aged && s.name == "killed" {
			s.kill(ctx)
		}
	}
}

func (s *testNode) pauseCalm(ctx context.Context) bool {
	if s.faultCount == 0 {
		return pause(ctx, s.form.calm/2)
	}
	return pause(ctx, s.form.calm)
}

func (s *testNode) kinds() []faultKind {
	all := faultKinds()
	if s.form.aged && s.name != "killed" {
		all = []faultKind{all[5]} // slow vaults, after which the daemon asks again at once
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// injectFault injects one fault for a part of the time with faults.
func (s *testNode) injectFault(faulty context.Context, m faultKind) {
	if !pause(faulty, rand.N(s.form.faulty/2)) {
		return
	}
	where := append([]string{bulk}, fullVaults...)[rand.N(len(fullVaults)+1)]
	m.fault.Service, m.fault.Host = devcloud.ServiceVault, where
	if m.login {
		where = login
		m.fault.Service, m.fault.Host = devcloud.ServiceLogin, ""
	}
	s.faultLog.begin(where)
	defer s.faultLog.end(where)
	if m.deny {
		vault := s.histories[where].vault
		vault.Deny(node.PrincipalID)
		defer vault.Grant(node.PrincipalID)
		pause(faulty, s.form.faulty/4+rand.N(s.form.faulty))
		return
	}
	stop, err := s.n.Cloud.Inject(m.fault)
	if err != nil {
		s.problem("%s: %v", m.name, err)
		return
	}
	defer stop()
	pause(faulty, s.form.faulty/4+rand.N(s.form.faulty))
}
