package keyvault

import (
	"context"
	"strings"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/cache"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/certificate"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/files"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/mounted"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/reads"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/vault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Fetch reads every object of the request and returns the volume's complete content, or the first error in the order
// of the objects. The error is a sentinel error of package volume or, with errors.Is, the error of ctx.
//
// Objects with the same vault, kind, name and version are read once, or taken from the cache, see package cache. A
// volume counts as mounted until [Client.Forget].
func (c *Client) Fetch(ctx context.Context, r volume.Request) (volume.Content, error) {
	r, err := c.logins.Identify(r)
	if err != nil {
		return volume.Content{}, err
	}
	for _, object := range r.Objects {
		if err := vault.Check(c.cloud, object); err != nil {
			return volume.Content{}, err
		}
	}
	vaults := r.Vaults()
	fetch := c.begin(r, vaults)
	c.vaults.Use(vaults)
	defer c.vaults.Release(vaults)
	if err := fetch.CheckPolicy(ctx); err != nil {
		return volume.Content{}, err
	}
	objects, err := fetch.Expand(ctx)
	if err != nil {
		return volume.Content{}, err
	}
	set := files.New(r, objects, c.decoders)
	err = fetch.Run(ctx, objects, func(ctx context.Context, objects []*volume.Object, v *reads.Value) error {
		return set.Add(ctx, objects, valueOf(v))
	})
	if err != nil {
		return volume.Content{}, err
	}
	ages := fetch.Ages(ctx)
	content, err := set.Content(ctx, ages.Fetched)
	if err != nil {
		return volume.Content{}, err
	}
	content.Read, content.Outage = ages.Read, ages.Outage
	if r.Volume != "" {
		c.hold(r.Volume, mounted.Volume{Owner: fetch.Owner, Vaults: vaults, Certificates: certificatesOf(set), Newest: ages.Newest})
	}
	return content, nil
}

// begin begins the reading. What the node knows of the volume decides which cached values are new enough for it.
func (c *Client) begin(r volume.Request, vaults []string) *reads.Fetch {
	fetch := c.reads.Begin(r, vaults)
	if !r.Refresh && r.Volume != "" {
		atLeast := time.Duration(0)
		if fetch.Limited() {
			atLeast = cache.LateTime
		}
		fetch.Demand.Begun = c.volumes.Begin(r.Volume, c.now(), atLeast)
	}
	if !r.Poll {
		fetch.Demand.Since = c.volumes.Newest(r.Volume)
	}
	return fetch
}

// valueOf returns what files are made of.
func valueOf(v *reads.Value) files.Value {
	value := files.Value{
		Secret: v.Secret, ContentType: v.ContentType, Backs: v.Backs, Tags: v.Tags, Expires: v.Expires, Version: v.Version,
		DER: v.DER, Decoded: v.Decoded, Size: v.Size(),
	}
	if k := v.Key; k != nil && k.Kty != nil {
		value.Key = certificate.JSONWebKey{Type: string(*k.Kty), N: k.N, E: k.E, X: k.X, Y: k.Y}
		if k.Crv != nil {
			value.Key.Curve = string(*k.Crv)
		}
	}
	return value
}

// certificatesOf returns the certificates that a volume holds. Their names are copies: a name is a part of the text of the pod,
// which must not stay in memory for it.
func certificatesOf(set *files.Set) (certificates []mounted.Certificate) {
	for _, c := range set.Certificates() {
		name := strings.Clone(strings.ToLower(c.Name))
		certificates = append(certificates, mounted.Certificate{Vault: c.Vault, Name: name, NotAfter: c.NotAfter, Gap: c.Gap})
	}
	return certificates
}

// hold stores the state of a volume.
func (c *Client) hold(id string, now mounted.Volume) {
	c.logins.Hold(now.Owner)
	c.vaults.Use(now.Vaults)
	c.release(c.volumes.Replace(id, now))
}

// Forget drops the state of a volume that is unmounted. With its last volume, the proof of a pod ends.
func (c *Client) Forget(volume string) { c.release(c.volumes.Remove(volume)) }

// release undoes hold.
func (c *Client) release(before mounted.Volume, known bool) {
	if !known {
		return
	}
	c.vaults.Release(before.Vaults)
	if last := c.logins.Release(before.Owner); last {
		c.reads.Depart(before.Owner.Key)
	}
}
