package keyvault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const (
	// perVolume bounds how many objects of one volume are read at the same time.
	perVolume = 16
	// readBytes is what a read takes until its files are counted: the largest secret and a little more. So many of them
	// can wait at the same time for the same memory, or for an answer.
	readBytes = 32 << 10
	// objectBytes is what an object that a list has named takes until its volume is there, beside its files: measured and
	// rounded up.
	objectBytes = 1 << 10
)

// Fetch reads every object of the request and gives the volume's complete content, or the first error in the order of
// the request's objects, which is one of the sentinel errors of package volume or, with errors.Is, that of ctx.
//
// Objects of one vault, kind, name and version are read once, and not at all where another volume of the same identity
// has them fresh enough: for a first mount younger than [Options.MountMaxAge], for a refresh younger than the interval
// of its volume and newer than what the volume has. What was given to a volume counts as held by it until
// [Client.Forget].
func (c *Client) Fetch(ctx context.Context, r volume.Request) (volume.Content, error) {
	r, err := c.identify(r)
	if err != nil {
		return volume.Content{}, err
	}
	for _, object := range r.Objects {
		if err := c.checkObject(object); err != nil {
			return volume.Content{}, err
		}
	}
	e, vaults := c.errand(r), vaultsOf(r.Objects)
	c.metrics.use(vaults)
	defer c.metrics.release(vaults)

	if err := c.permit(ctx, e); err != nil {
		return volume.Content{}, err
	}
	began := c.now()
	content := volume.Content{Folders: r.Folders}
	lists, objects, err := c.expand(ctx, e)
	if err != nil {
		return volume.Content{}, err
	}
	reads, places := plan(objects)
	if err := c.run(ctx, e, reads); err != nil {
		return volume.Content{}, err
	}
	content.Files, err = filesOf(r.Folders, objects, places)
	if err != nil {
		return volume.Content{}, err
	}
	reads = append(lists, reads...)
	content.Fetched, content.Outage = ageOf(reads, r.Refresh)
	if content.Fetched.IsZero() { // nothing that ages
		content.Fetched = began
	}
	c.hold(r.Volume, r.RotationInterval, vaults, reads)
	return content, nil
}

// ageOf gives when the oldest was read, and the first outage. In a refresh pinned versions have no age.
func ageOf(reads []*read, refresh bool) (oldest time.Time, outage error) {
	for _, r := range reads {
		ages := !refresh || r.key.version == ""
		if ages && (oldest.IsZero() || r.at.Before(oldest)) {
			oldest = r.at
		}
		if outage == nil {
			outage = r.outage
		}
	}
	return oldest, outage
}

func vaultsOf(objects []volume.Object) []string {
	var vaults []string
	for _, object := range objects {
		if !slices.Contains(vaults, object.Vault) {
			vaults = append(vaults, object.Vault)
		}
	}
	return vaults
}

// checkObject is the second line of defence behind volume.Parse: the SDK cleans its paths, so that a name such as
// ".." would become another request, and a token must not travel to a host outside the cloud.
func (c *Client) checkObject(o volume.Object) error {
	switch {
	case !c.cloud.holds(o.Vault):
		return volume.Errorf(volume.ErrInvalid, "%s: %q is not a vault of the cloud %s", o.Source, o.Vault, c.cloud.Name)
	case o.Kind == volume.KindSelection && o.Selection != nil && o.Selection.Each != nil:
		return nil
	case !volume.ValidName(o.Name):
		return volume.Errorf(volume.ErrInvalid, "%s: %q is not the name of an object", o.Source, o.Name)
	case !validVersion(o.Version):
		return volume.Errorf(volume.ErrInvalid, "%s: %q is not a version of an object", o.Source, o.Version)
	}
	return nil
}

// validVersion takes what names a version, 32 hexadecimal digits, and nothing, which names the latest.
func validVersion(version string) bool {
	return version == "" || len(version) == 32 && strings.Trim(version, "0123456789abcdef") == ""
}

// expand puts in the place of every selection the objects that it stands for now. They are optional: what is deleted or
// disabled between the list and the read is left out.
func (c *Client) expand(ctx context.Context, e *errand) (lists []*read, objects []volume.Object, err error) {
	for i, object := range e.Objects {
		if object.Kind == volume.KindSelection {
			key := readKey{object.Vault, interfaceList, selector(object.Selection), ""}
			lists = append(lists, &read{key: key, objects: []*volume.Object{&e.Objects[i]}})
		}
	}
	if len(lists) == 0 {
		return nil, e.Objects, nil
	}
	if err := c.run(ctx, e, lists); err != nil {
		return nil, nil, err
	}
	next := 0
	for _, object := range e.Objects {
		if object.Kind != volume.KindSelection {
			objects = append(objects, object)
			continue
		}
		list := lists[next]
		next++
		if err := e.Limits.Check(0, len(objects)+len(list.names)); err != nil {
			return nil, nil, err
		}
		if err := e.hold(ctx, int64(len(list.names))*objectBytes); err != nil {
			return nil, nil, err
		}
		for _, name := range list.names {
			selected := object.Selection.Each(name)
			selected.Optional = true
			objects = append(objects, selected)
		}
	}
	return lists, objects, nil
}

// selector stands for a selection where its objects have a name.
func selector(s *volume.Selection) string {
	return fmt.Sprintf("%q %q", strings.ToLower(s.Prefix), s.Tags) // fmt sorts the keys of a map
}

// callFunc asks a vault for an object.
type callFunc func(*Client, context.Context, *session, volume.Object) (*got, error)

// read is one request to a vault on behalf of one or several objects.
type read struct {
	key      readKey
	objects  []*volume.Object // that need it
	speaker  int              // errors speak of this one
	optional bool             // nobody minds if it is not there
	call     callFunc         // not of a list

	entry    *entry          // of the cache
	at       time.Time       // just before it was asked
	absent   bool            // there is no such object, or it is disabled
	names    []string        // of a list
	files    [][]volume.File // of each object
	notAfter time.Time       // of a certificate
	decoded  []*decoded      // of a certificate, for the volume to hold
	outage   error           // why the files are of the last known value and not of what the vault has now
	err      error
}

func (r *read) object() volume.Object { return *r.objects[r.speaker] }

// The interfaces of a vault, and what is none but costs as much: the list of its secrets.
const (
	interfaceSecrets      = "secrets"
	interfaceCertificates = "certificates"
	interfaceKeys         = "keys"
	interfaceList         = "list"
)

type readKey struct {
	vault, interfaceName, name, version string
}

// place is where the files of an object are: those of the object at an index of a read.
type place struct {
	read  *read
	index int
}

// plan gives the distinct reads in the order in which the objects first need them, and the place of each object's files.
func plan(objects []volume.Object) (reads []*read, places []place) {
	known := make(map[readKey]*read, len(objects))
	reads, places = make([]*read, 0, len(objects)), make([]place, 0, len(objects))
	for i := range objects {
		object := &objects[i]
		key := readKey{object.Vault, interfaceSecrets, strings.ToLower(object.Name), object.Version}
		call := (*Client).getSecret
		switch object.Kind {
		case volume.KindPublicCertificate:
			key.interfaceName, call = interfaceCertificates, (*Client).getCertificate
		case volume.KindKey:
			key.interfaceName, call = interfaceKeys, (*Client).getKey
		}
		r, ok := known[key]
		if !ok {
			r = &read{key: key, optional: true, call: call}
			known[key] = r
			reads = append(reads, r)
		}
		if r.optional && !object.Optional {
			r.speaker, r.optional = len(r.objects), false // the one that minds is the one to speak of
		}
		places = append(places, place{r, len(r.objects)})
		r.objects = append(r.objects, object)
	}
	return reads, places
}

// run does the reads that the cache does not answer, some at a time. When one fails, those after it are given up,
// those before it are not: so the error is always that of the first read that fails, whichever happens to fail first.
// Only a volume that is too large ends all of them.
func (c *Client) run(ctx context.Context, e *errand, reads []*read) error {
	left := c.served(ctx, e, reads)
	if c.spread(ctx, e, left) {
		left = c.served(ctx, e, left)
	}
	all, cancelAll := context.WithCancel(ctx)
	defer cancelAll()
	if errors.Is(firstError(reads), volume.ErrTooLarge) {
		return firstError(reads)
	}
	under := running{cancels: map[int]context.CancelFunc{}, failed: len(left)}
	var group errgroup.Group
	group.SetLimit(perVolume)
	for i, r := range left {
		group.Go(func() error {
			ctx, wanted := under.begin(all, i)
			if !wanted {
				return nil
			}
			r.err = c.attend(ctx, e, r)
			under.end(i, r.err != nil)
			if errors.Is(r.err, volume.ErrTooLarge) {
				cancelAll()
			}
			return nil
		})
	}
	_ = group.Wait() // the reads hold their errors
	return firstError(reads)
}

// running are the reads of a volume that are under way, by their place in the volume's order.
type running struct {
	mu      sync.Mutex
	cancels map[int]context.CancelFunc
	failed  int // the first that has failed
}

// begin gives the context of a read, unless one before it has failed.
func (u *running) begin(parent context.Context, i int) (_ context.Context, wanted bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if i > u.failed {
		return nil, false
	}
	ctx, cancel := context.WithCancel(parent)
	u.cancels[i] = cancel
	return ctx, true
}

// end gives up, after a failure, those that come after.
func (u *running) end(i int, failed bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.cancels[i]()
	delete(u.cancels, i)
	if !failed || i > u.failed {
		return
	}
	u.failed = i
	for other, cancel := range u.cancels {
		if other > i {
			cancel()
		}
	}
}

// attend is do on a goroutine of its own, where a panic would end the process and is to be one object's trouble.
func (c *Client) attend(ctx context.Context, e *errand, r *read) error {
	if err := e.hold(ctx, readBytes); err != nil {
		return err
	}
	defer func() { _ = e.hold(ctx, -readBytes) }() // what was got is counted with the files
	err := guarded(func() error { return c.do(ctx, e, r) })
	if errors.Is(err, errPanic) {
		return c.explain(ctx, e, r.object(), &failure{err: errPanic, waited: theVault})
	}
	return err
}

// firstError prefers a refusal to a context that ended: the refusal is what there is to repair.
func firstError(reads []*read) error {
	var ended error
	for _, r := range reads {
		switch {
		case r.err == nil:
		case !errors.Is(r.err, context.Canceled) && !errors.Is(r.err, context.DeadlineExceeded):
			return r.err
		case ended == nil:
			ended = r.err
		}
	}
	return ended
}

// pathOf is where the object lies in its vault.
func pathOf(o volume.Object) string {
	switch o.Kind {
	case volume.KindSelection:
		return "/secrets"
	case volume.KindPublicCertificate:
		return "/certificates/" + o.Name + "/" + o.Version
	case volume.KindKey:
		return "/keys/" + o.Name + "/" + o.Version
	default:
		return "/secrets/" + o.Name + "/" + o.Version
	}
}

// filesOf puts the files of all objects together, in the order of their paths.
func filesOf(folders []string, objects []volume.Object, places []place) ([]volume.File, error) {
	tree := volume.NewTree(folders)
	files := make([]volume.File, 0, len(objects))
	for i, object := range objects {
		p := places[i]
		if p.read.absent {
			continue // only for optional objects, else run would have failed
		}
		for _, file := range p.read.files[p.index] {
			if err := tree.Add(file.Path, object); err != nil {
				return nil, err
			}
			files = append(files, file)
		}
	}
	slices.SortFunc(files, func(a, b volume.File) int { return strings.Compare(a.Path, b.Path) })
	return files, nil
}
