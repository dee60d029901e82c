package reads

import (
	"time"
	"unique"

	"k8s.io/klog/v2"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/cache"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/login"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/vault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Options of [New].
type Options struct {
	Cloud  azure.Cloud
	Vaults *vault.Vaults
	Logins *login.Logins
	Cache  *cache.Cache[*Value]
	Now    func() time.Time
	After  func(time.Duration) <-chan time.Time // timer of that clock
	Random func() float64                       // in [0, 1), to keep nodes apart
	Logger klog.Logger                          // has a line for each list that is refused or not worth it
}

// Client reads for all volumes of a node. It is safe for concurrent use.
type Client struct {
	cloud    azure.Cloud
	vaults   *vault.Vaults
	logins   *login.Logins
	cache    *cache.Cache[*Value]
	unlisted *unlisted
	now      func() time.Time
	after    func(time.Duration) <-chan time.Time
	random   func() float64
	logger   klog.Logger
}

// New makes a client. It sends no request.
func New(o Options) *Client {
	return &Client{
		cloud: o.Cloud, vaults: o.Vaults, logins: o.Logins, cache: o.Cache, unlisted: newUnlisted(),
		now: o.Now, after: o.After, random: o.Random, logger: o.Logger,
	}
}

// Tidy forgets the lists of volumes that are gone.
func (c *Client) Tidy() { c.unlisted.tidy(c.now()) }

// Depart shortens the time for which the values of an identity stay: its last volume is gone.
func (c *Client) Depart(key login.Key) {
	c.cache.Depart(func(identity any) bool { return sameIdentity(identity, key) })
}

// identity decides who shares cached values: a login and, where the policy checks it, the principal of its tokens.
type identity struct {
	login.Key
	principal volume.Principal
}

// sameIdentity reports whether a cache key is of an identity, in any tenant and with any principal.
func sameIdentity(of any, key login.Key) bool {
	handle, ok := of.(unique.Handle[identity])
	return ok && handle.Value().InTenant("") == key.InTenant("")
}
