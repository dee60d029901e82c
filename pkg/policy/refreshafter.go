package policy

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// RefreshAfter returns the time before which nothing of a request may have been fetched: the latest refreshAfter of the
// file, and of the rules that decide about its vaults. It is zero if there is none. A time after now does not count yet:
// nothing can have been fetched after it.
//
// What is not known yet matches: the identity in a token, and of a request without an identity also its identity and its
// vaults. So the result can be later than what applies, and then something is fetched once more.
func (p *Policy) RefreshAfter(r volume.Request, now time.Time) time.Time {
	latest := p.refreshAfter.notAfter(now)
	for _, rule := range p.deciding(r) {
		if t := rule.RefreshAfter.notAfter(now); t.After(latest) {
			latest = t
		}
	}
	return latest
}

// LatestRefreshAfter returns the latest refreshAfter of all, also one in the future; zero if there is none.
func (p *Policy) LatestRefreshAfter() time.Time {
	latest := p.refreshAfter.time
	for _, rule := range p.rules {
		if t := rule.RefreshAfter.time; t.After(latest) {
			latest = t
		}
	}
	return latest
}

// deciding returns the rules that decide about the vaults of a request, or may decide, if any rule has a refreshAfter.
func (p *Policy) deciding(r volume.Request) (rules []rule) {
	if !slices.ContainsFunc(p.rules, func(r rule) bool { return !r.RefreshAfter.time.IsZero() }) {
		return nil
	}
	if r.Identity.Kind == "" {
		for _, rule := range p.rules {
			if rule.coversPod(r.Pod) {
				rules = append(rules, rule)
			}
		}
		return rules
	}
	for _, vault := range vaults(r) {
		index, open := p.decide(r, vault, nil)
		rules = append(rules, open...)
		if index >= 0 {
			rules = append(rules, p.rules[index])
		}
	}
	return rules
}

// instant is a refreshAfter. The zero value is a field that is left out.
type instant struct {
	text  string
	given bool
	time  time.Time
}

func (i instant) notAfter(now time.Time) time.Time {
	if i.time.After(now) {
		return time.Time{}
	}
	return i.time
}

// UnmarshalText gets a time also without quotes, as it is written.
func (i *instant) UnmarshalText(text []byte) error {
	i.text, i.given = string(text), true
	return nil
}

// check reads the text. It wants a date, a time of the day and an offset, because a guess about them would refresh too
// little.
func (i *instant) check() (err error) {
	if !i.given {
		return nil
	}
	if i.time, err = time.Parse(time.RFC3339, i.text); err != nil || i.time.IsZero() {
		return fmt.Errorf("refreshAfter: %q is no date and time of RFC 3339 with Z or an offset; write it as 2026-11-27T14:00:00Z", i.text)
	}
	return nil
}

// checkRefreshAfter refuses the field where it has no effect.
func (r *rule) checkRefreshAfter() error {
	if err := r.RefreshAfter.check(); err != nil {
		return err
	}
	if r.deny() && r.RefreshAfter.given {
		return errors.New("refreshAfter: a rule that denies lets nothing be fetched, and mounted volumes keep their files; " +
			"leave it out, and delete the pods that must lose their files")
	}
	return nil
}
