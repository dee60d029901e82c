package keyvault

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// perVolume bounds how many objects of one volume are read at the same time.
const perVolume = 16

// Fetch reads every object of the request and gives the volume's complete content, or the first error in the order of
// the request's objects, which is one of the sentinel errors of package volume or, with errors.Is, that of ctx.
//
// Objects of one vault, kind, name and version are read once.
func (c *Client) Fetch(ctx context.Context, r volume.Request) (volume.Content, error) {
	if err := checkIdentity(r.Identity); err != nil {
		return volume.Content{}, err
	}
	for _, object := range r.Objects {
		if err := c.checkObject(object); err != nil {
			return volume.Content{}, err
		}
	}
	content := volume.Content{Folders: r.Folders, Fetched: c.now()}
	objects, err := c.expand(ctx, r, &content.Fetched)
	if err != nil {
		return volume.Content{}, err
	}
	reads, byObject := plan(objects)
	if err := c.run(ctx, r, reads); err != nil {
		return volume.Content{}, err
	}
	for _, read := range reads {
		if read.at.Before(content.Fetched) {
			content.Fetched = read.at
		}
	}
	content.Files, err = c.files(ctx, r.Folders, objects, byObject)
	if err != nil {
		return volume.Content{}, err
	}
	return content, nil
}

var (
	objectName    = regexp.MustCompile(`^[0-9a-zA-Z-]{1,127}$`)
	objectVersion = regexp.MustCompile(`^([0-9a-f]{32})?$`)
)

// checkObject is the second line of defence behind volume.Parse: the SDK cleans its paths, so that a name such as
// ".." would become another request, and a token must not travel to a host outside the cloud.
func (c *Client) checkObject(o volume.Object) error {
	switch {
	case !c.cloud.holds(o.Vault):
		return volume.Errorf(volume.ErrInvalid, "%s: %q is not a vault of the cloud %s", o.Source, o.Vault, c.cloud.Name)
	case o.Kind == volume.KindSelection && o.Selection != nil && o.Selection.Each != nil:
		return nil
	case !objectName.MatchString(o.Name):
		return volume.Errorf(volume.ErrInvalid, "%s: %q is not the name of an object", o.Source, o.Name)
	case !objectVersion.MatchString(o.Version):
		return volume.Errorf(volume.ErrInvalid, "%s: %q is not a version of an object", o.Source, o.Version)
	}
	return nil
}

// expand puts in the place of every selection the objects that it stands for now. They are optional: what is deleted or
// disabled between the list and the read is left out. oldest is moved back to when the first list was asked for.
func (c *Client) expand(ctx context.Context, r volume.Request, oldest *time.Time) ([]volume.Object, error) {
	lists := make([]*read, 0, 1)
	for _, object := range r.Objects {
		if object.Kind == volume.KindSelection {
			lists = append(lists, &read{object: object, call: (*Client).list})
		}
	}
	if err := c.run(ctx, r, lists); err != nil {
		return nil, err
	}
	var objects []volume.Object
	for _, object := range r.Objects {
		if object.Kind != volume.KindSelection {
			objects = append(objects, object)
			continue
		}
		list := lists[0]
		lists = lists[1:]
		if list.at.Before(*oldest) {
			*oldest = list.at
		}
		for _, name := range list.got.names {
			selected := object.Selection.Each(name)
			selected.Optional = true
			objects = append(objects, selected)
		}
	}
	return objects, nil
}

// read is one request to a vault on behalf of one or several objects.
type read struct {
	object   volume.Object // the first that needs it; errors speak of this one
	optional bool          // nobody minds if it is not there
	call     func(*Client, context.Context, *session, volume.Object) (got, error)

	at     time.Time // just before it was asked
	got    got
	absent bool // there is no such object, or it is disabled
	err    error
}

type readKey struct {
	vault, interfaceName, name, version string
}

// plan gives the distinct reads in the order in which the objects first need them, and the read of each object.
func plan(objects []volume.Object) (reads []*read, byObject []*read) {
	known := map[readKey]*read{}
	for _, object := range objects {
		key := readKey{object.Vault, "secrets", strings.ToLower(object.Name), object.Version}
		call := (*Client).getSecret
		switch object.Kind {
		case volume.KindPublicCertificate:
			key.interfaceName, call = "certificates", (*Client).getCertificate
		case volume.KindKey:
			key.interfaceName, call = "keys", (*Client).getKey
		}
		r, ok := known[key]
		if !ok {
			r = &read{object: object, optional: true, call: call}
			known[key] = r
			reads = append(reads, r)
		}
		if r.optional && !object.Optional {
			r.object, r.optional = object, false // the one that minds is the one to speak of
		}
		byObject = append(byObject, r)
	}
	return reads, byObject
}

// run does the reads, some at a time. When one fails, those after it are given up, those before it are not: so the
// error is always that of the first read that fails, whichever happens to fail first.
func (c *Client) run(ctx context.Context, request volume.Request, reads []*read) error {
	var group errgroup.Group
	group.SetLimit(perVolume)
	all, cancelAll := context.WithCancel(ctx)
	defer cancelAll()
	contexts := make([]context.Context, len(reads))
	cancels := make([]context.CancelFunc, len(reads))
	for i := range reads {
		contexts[i], cancels[i] = context.WithCancel(all)
	}
	for i, r := range reads {
		group.Go(func() error {
			if contexts[i].Err() == nil || ctx.Err() != nil {
				r.err = c.do(contexts[i], request, r) //nolint:contextcheck // each is a child of ctx
			}
			if r.err != nil {
				for _, cancel := range cancels[i+1:] {
					cancel()
				}
			}
			return nil
		})
	}
	_ = group.Wait() // the reads hold their errors
	return firstError(reads)
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

// do asks for the challenge if it is unknown, logs in if need be, and makes the one request.
func (c *Client) do(ctx context.Context, request volume.Request, r *read) error {
	about := matter{cloud: c.cloud, identity: request.Identity, object: r.object, tenant: request.Identity.TenantID}
	said, err := c.challenges.of(ctx, r.object.Vault, r.path())
	if err != nil {
		return about.explain(ctx, "the vault", err)
	}
	about.vaults = said.tenant
	if about.tenant == "" {
		about.tenant = said.tenant
	}
	key, session, err := c.session(request, about.tenant, r.object.Vault)
	if err != nil {
		return volume.Errorf(volume.ErrInvalid, "%s: no login can be made of clientID and tenantID; check them", about)
	}
	// First the token, although the clients would ask for it themselves: they would not look at ctx while they wait.
	if _, err := session.login.GetToken(ctx, noClaims()); err != nil {
		return about.explain(ctx, "Entra ID", err)
	}

	r.at = c.now()
	ctx, seen := withOutcome(patient(ctx))
	err = guarded(func() (err error) {
		r.got, err = r.call(c, ctx, session, r.object)
		return err
	})
	if err == nil {
		return nil
	}
	err = reduced(err, seen)
	var refusal *answer
	if errors.As(err, &refusal) && !refusal.entra {
		if refusal.absent() || refusal.disabled() {
			r.absent = true
			if r.optional {
				return nil
			}
		}
		if refusal.status == http.StatusUnauthorized {
			c.forget(key, session.login)
			if said, ok := c.challenges.known(r.object.Vault); ok {
				about.vaults = said.tenant
			}
		}
	}
	return about.explain(ctx, "the vault", err)
}

// path is where the read's object lies in its vault.
func (r *read) path() string {
	switch r.object.Kind {
	case volume.KindSelection:
		return "/secrets"
	case volume.KindPublicCertificate:
		return "/certificates/" + r.object.Name + "/" + r.object.Version
	case volume.KindKey:
		return "/keys/" + r.object.Name + "/" + r.object.Version
	default:
		return "/secrets/" + r.object.Name + "/" + r.object.Version
	}
}

// files turns what was read into the volume's files, in the order of their paths.
func (c *Client) files(ctx context.Context, folders []string, objects []volume.Object, byObject []*read) ([]volume.File, error) {
	tree := volume.NewTree(folders)
	byPath := map[string]volume.File{}
	for i, object := range objects {
		if byObject[i].absent {
			continue // only for optional objects, else run would have failed
		}
		written, err := c.render(ctx, object, byObject[i].got)
		if err != nil {
			return nil, err
		}
		for _, file := range written {
			if err := tree.Add(file.Path, object); err != nil {
				return nil, err
			}
			byPath[file.Path] = file
		}
	}
	files := make([]volume.File, 0, len(byPath))
	for _, file := range byPath {
		files = append(files, file)
	}
	slices.SortFunc(files, func(a, b volume.File) int { return strings.Compare(a.Path, b.Path) })
	return files, nil
}
