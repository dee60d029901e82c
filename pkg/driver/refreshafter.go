package driver

import (
	"errors"
	"strings"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// errYoung ends a refresh of a set that turns out not to be due.
var errYoung = errors.New("not due")

// knownSet is the set at the target of a volume, as a refreshAfter of the policy and /volumes see it.
type knownSet struct {
	fetched  time.Time
	read     time.Time       // before fetched if a list showed since then that nothing has changed, see [volume.Content]
	subject  *volume.Request // see subjectOf; before this process has parsed the attributes it has only a Pod
	expiries []volume.Expiry // nil if this process has not fetched the set
}

func setOf(content volume.Content, subject *volume.Request) knownSet {
	set := knownSet{content.Fetched, content.Read, subject, append([]volume.Expiry{}, content.Expiries...)}
	if set.read.IsZero() {
		set.read = set.fetched
	}
	return set
}

// age sets when the set was fetched, if it is not the known one.
func (s *knownSet) age(fetched time.Time) {
	if !s.fetched.Equal(fetched) {
		s.fetched, s.read = fetched, fetched
	}
}

// before reports whether the policy wants the set to be fetched again.
func (s knownSet) before(p Policy, now time.Time) bool {
	return s.read.Before(p.RefreshAfter(*s.subject, now))
}

// seeSet records the set of a republish, and reports whether the policy wants it to be fetched again. It parses nothing. So
// until this process has parsed the attributes of the volume, every rule counts that may be about its pod.
func (n *nodeServer) seeSet(r publishRequest) (before bool) {
	value, _ := n.sets.Load(r.volumeID)
	set, known := value.(knownSet)
	if !known {
		set.subject = &volume.Request{Pod: volume.Pod{
			Name: r.attributes[volume.KubeletPodName], Namespace: r.attributes[volume.KubeletPodNamespace], UID: r.attributes[volume.KubeletPodUID],
			ServiceAccount: r.attributes[volume.KubeletServiceAccount],
		}}
	}
	if !known || !set.fetched.Equal(r.fetched) {
		set.age(r.fetched)
		n.sets.Store(r.volumeID, set)
	}
	return set.before(n.config.Policy, n.now())
}

// checkYoung returns errYoung if a set that only the policy can make due is not due. It needs no permission of the policy: a
// refusal is only reported if there is something to fetch.
func (n *nodeServer) checkYoung(r publishRequest, subject *volume.Request) error {
	if !r.refresh {
		return nil
	}
	value, _ := n.sets.Load(r.volumeID)
	set, _ := value.(knownSet)
	set.subject = subject
	set.age(r.fetched)
	n.sets.Store(r.volumeID, set)
	if r.young && !set.before(n.config.Policy, n.now()) {
		return errYoung
	}
	return nil
}

// subjectOf returns what the rules of a policy are about: the pod, the identity without its login, and the vaults. It keeps
// no memory of the request.
func subjectOf(r volume.Request) *volume.Request {
	id := r.Identity
	subject := &volume.Request{
		Pod: volume.Pod{
			Name: strings.Clone(r.Pod.Name), Namespace: strings.Clone(r.Pod.Namespace), UID: strings.Clone(r.Pod.UID),
			ServiceAccount: strings.Clone(r.Pod.ServiceAccount),
		},
		Identity: volume.Identity{
			Kind: id.Kind, ClientID: strings.Clone(id.ClientID), ObjectID: strings.Clone(id.ObjectID), ResourceID: strings.Clone(id.ResourceID),
		},
	}
	for _, vault := range r.Vaults() {
		subject.Objects = append(subject.Objects, volume.Object{Vault: strings.Clone(vault)})
	}
	return subject
}

// countBefore counts the volumes whose sets the policy wants to be fetched again.
func (n *nodeServer) countBefore() (count int) {
	for _, set := range n.sets.Range {
		if set.(knownSet).before(n.config.Policy, n.now()) {
			count++
		}
	}
	return count
}
