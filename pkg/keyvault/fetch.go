package keyvault

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const (
	// perVolume bounds how many objects of one volume are read at the same time.
	perVolume = 16
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
	c.hold(e, vaults, reads)
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

// selector stands for a selection where its objects have a name. It is a hash: tags may have 30 KiB.
func selector(s *volume.Selection) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q", strings.ToLower(s.Prefix), s.Tags)) // fmt sorts the keys of a map
	return string(sum[:])
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

// filesOf puts the files of all objects together, in the order of their paths. Where two objects write the same one and
// may, the later wins.
func filesOf(folders []string, objects []volume.Object, places []place) ([]volume.File, error) {
	tree := volume.NewTree(folders)
	byPath := make(map[string]volume.File, len(objects))
	for i, object := range objects {
		p := places[i]
		if p.read.absent {
			continue // only for optional objects, else run would have failed
		}
		for _, file := range p.read.files[p.index] {
			if err := tree.Add(file.Path, object); err != nil {
				return nil, err
			}
			byPath[file.Path] = file
		}
	}
	files := slices.AppendSeq(make([]volume.File, 0, len(byPath)), maps.Values(byPath))
	slices.SortFunc(files, func(a, b volume.File) int { return strings.Compare(a.Path, b.Path) })
	return files, nil
}
