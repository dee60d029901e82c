package azure

import (
	"math"
	"time"
)

// The constants of a [pace]. Rates are requests a second, and parts of a whole. They were tuned with the simulated fleets of test/fleet.
const (
	// window is the time in which a vault counts its requests.
	// https://learn.microsoft.com/azure/key-vault/general/service-limits
	window = 10 * time.Second

	// Nodes that share a vault do not know each other. So that they find equal shares, all try the same rates one after another: each
	// refusal leads from one to the next, unless the vault has answered enough since the last refusal to tell the share.
	firstRate, secondRate, lastRate = 16, 2, 0.36
	firstCount, secondCount         = 32, 4

	// A node that had so many answers in a window needs no limit: it shares the vault with few, and its bursts are refused once in a window.
	alone = 128

	// At lastRate the share is what the vault has answered in this time, in which it refuses most requests of a very large fleet. A shorter time
	// is enough if the vault stops refusing before.
	measureFor = 30 * time.Second

	// After a vault that refused everything, the rate doubles after this time without a refusal, in which there were enough answers.
	doubleAfter = 30 * time.Second
	enough      = 4

	// decrease is the part by which a refusal lowers the rate. A larger one makes unequal shares equal sooner, but makes equal shares
	// vary more.
	decrease = .12
	// growth of the rate in a second. It is not a part of the rate, so that a small share grows faster than a large one. With decrease, it
	// decides how many requests are refused: at a rate of 0.08, about growth / (decrease × 0.08²) = 1 %.
	growth = 8e-6
	// certain answers without a refusal show that the vault may have more. Each further one raises the rate by this part. The next refusal
	// undoes that, unless the rate is far higher by then.
	certain, further = 400, 1e-3
	farHigher        = 4
	// quietFor is the time without a refusal after which the rate is raised too, faster and faster.
	quietFor = time.Hour

	// remembered is the time of which the answers before a refusal count.
	remembered = 2 * time.Minute
	// noRate is the rate from which on there is no limit.
	noRate = 1000
	// saved is the time for which an idle node keeps its share: the kubelet's longest pause between two calls.
	saved = 150 * time.Second
	// hurry is how much faster than its rate it spends what it has saved.
	hurry = 4
)

// pace is the rate at which a node asks a vault that has refused requests with 429. There is none before the first refusal. It is changed by
// what the node alone can see: answers, refusals, and how long a refusal closes the vault. A refusal lowers the rate by a part,
// time raises it by a constant: so the rates of nodes that share a vault become equal (Chiu and Jain, 1989). It is not safe for
// concurrent use.
type pace struct {
	random func() float64 // in [0, 1)

	rate   float64   // requests a second; 0 means no limit
	tokens float64   // requests that may be sent; a refusal ends all but one
	at     time.Time // of tokens
	// reserved are tokens that have been given away and not been used yet.
	reserved int
	next     time.Time // when the next request may be sent

	learning bool      // the share is not known yet
	opened   time.Time // since when answers are counted
	answers  int       // since then
	many     int       // answers between the last two refusals
	clean    int       // answers since the last refusal, or since the rate was doubled
	lowered  time.Time // when the rate was lowered, or doubled
	retry    time.Time // that the last refusal has named

	counted int           // answers at lastRate
	took    time.Duration // in this time

	sure float64 // the rate before it was raised by further answers; 0 if it was not
}

// limited reports whether there is a limit.
func (p *pace) limited() bool { return p.rate > 0 }

// pass lets the time pass.
func (p *pace) pass(now time.Time) {
	seconds := now.Sub(p.at).Seconds()
	if !p.limited() || seconds <= 0 {
		return
	}
	p.at = now
	p.tokens = min(p.tokens+seconds*p.rate, max(1, p.rate*saved.Seconds()))
	if !p.learning {
		p.rate += growth * seconds
		if quiet := now.Sub(p.lowered) - quietFor; quiet > 0 {
			p.raise(math.Exp(seconds * quiet.Seconds() / quietFor.Seconds() / quietFor.Seconds()))
		}
	}
}

// wait returns how long the next request has to wait. A reserved one has its token.
func (p *pace) wait(now time.Time, reserved bool) time.Duration {
	p.pass(now)
	if !p.limited() { // the time may have ended the limit
		return 0
	}
	wait := p.next.Sub(now)
	if !reserved && p.tokens < .5 {
		wait = max(wait, inSeconds((1-p.tokens)/p.rate))
	}
	return max(wait, 0)
}

// take counts a request that is sent.
func (p *pace) take(now time.Time, reserved bool) {
	p.pass(now)
	if !p.limited() {
		return
	}
	if reserved {
		p.reserved = max(p.reserved-1, 0)
	} else {
		p.tokens--
	}
	gap := 1 / p.rate
	if p.tokens+float64(p.reserved) >= 1 {
		gap /= hurry
	}
	p.next = now.Add(inSeconds(gap * (.5 + p.random())))
}

// answered counts a request that the vault has processed.
func (p *pace) answered(now time.Time) {
	if now.Sub(p.opened) > remembered {
		p.opened, p.answers = now, 0
	}
	p.answers++
	p.clean++
	if !p.limited() {
		return
	}
	p.pass(now)
	switch {
	case p.learning && p.counted > 0 && now.Sub(p.lowered) > window+window/2:
		p.learn(p.measure())
	case p.learning && p.took > 0 && p.counted == 0 && p.clean >= enough && now.Sub(p.lowered) > doubleAfter:
		p.rate, p.clean, p.lowered = 2*p.rate, 0, now // the vault had refused everything
	case p.clean > certain:
		p.raise(1 + further)
	}
}

// raise tries a higher rate. The next refusal undoes it, unless the rate is far higher by then.
func (p *pace) raise(factor float64) {
	if p.sure == 0 || p.rate > farHigher*p.sure {
		p.sure = p.rate
	}
	if p.rate *= factor; p.rate > noRate {
		*p = pace{random: p.random}
	}
}

// refused counts a refusal that closes the vault until a time; retry is the same without jitter. Requests that were in flight with
// it do not count.
func (p *pace) refused(now, retry, until time.Time) {
	p.pass(now)
	if p.sure > 0 {
		p.rate, p.sure = p.sure, 0
	}
	took := max(until.Sub(p.opened), time.Second)
	if p.opened.IsZero() {
		took = window
	}
	answers := p.answers
	switch share := float64(answers) / took.Seconds(); {
	case !p.limited() && max(answers, p.many) >= alone:
	case !p.limited():
		p.rate, p.learning, p.lowered, p.retry = max(firstRate, share), true, now, retry
	case answers == 0 && now.Sub(p.lowered) < window-2*time.Second:
		// The vault goes on to refuse, in the same window.
	case p.learning:
		p.search(now, retry, answers, share)
	case answers > 0: // A vault that answers nothing has no share to find.
		p.rate, p.lowered = p.rate*(1-decrease), now
	}
	p.opened, p.answers, p.clean, p.many = until, 0, 0, answers
	if !p.limited() {
		return
	}
	spread := min(window.Seconds(), 1/p.rate)
	if p.learning && answers == 0 {
		spread /= 2 // it is the turn of those that had nothing
	}
	if p.next = retry.Add(inSeconds(spread * p.random())); p.next.Before(until) {
		p.next = until
	}
	p.tokens, p.at, p.reserved = 1, until, 0
}

// search lowers a rate of which the share is not known.
func (p *pace) search(now, retry time.Time, answers int, share float64) {
	before := p.retry
	p.lowered, p.retry = now, retry
	switch {
	case p.rate > secondRate:
		if answers >= firstCount {
			p.learn(min(share, p.rate))
		} else {
			p.rate = secondRate
		}
	case p.rate > lastRate && answers >= secondCount:
		p.learn(min(share, p.rate))
	case p.rate > lastRate:
		p.rate = lastRate
	default:
		p.counted += answers
		p.took += min(retry.Sub(before), 3*window)
		if p.took >= measureFor && p.counted > 0 {
			p.learn(p.measure())
		}
	}
}

func (p *pace) measure() float64 { return min(lastRate, (float64(p.counted)+.4)/p.took.Seconds()) }

func (p *pace) learn(rate float64) { p.rate, p.learning = rate, false }

func inSeconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
