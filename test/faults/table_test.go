package faults_test

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

// fault is one line of the table.
//
// Texts are what comes after `secrets[0]: secret "NAME" of URL as IDENTITY: `; {host} is the vault's, {tenant} that of its
// directory. A fault of an object's content, one with objects, is told without the identity.
type fault struct {
	name   string
	place  string
	warm   bool // another volume of the identity was there before
	alone  bool // it is everybody's trouble on its node
	inject func(w *world, cells []*cell) (clear func())

	within time.Duration // the volume's timeout; 0 means that the fault answers long before it
	code   codes.Code    // of a first publish
	says   string        // by a first publish
	again  string        // by a refresh, if that is another text

	healed bool // the daemon gets over it: every call is OK and has what is new

	objects, object, listed string // the attribute, and how an error names what is wrong, in it and in a list
	prepare                 func(*cell) error

	advice string // to a user
}

// longEnough is the timeout of volumes whose faults answer.
const longEnough = 40 * time.Second

func (f fault) timeout() time.Duration {
	if f.within != 0 {
		return f.within
	}
	return longEnough
}

// codeFor is the code of a call: a refresh is put up with while the set is young, and then Unavailable, whatever it is.
func (f fault) codeFor(c call) codes.Code {
	switch {
	case f.healed, c.age == young:
		return codes.OK
	case c.age == old:
		return codes.Unavailable
	default:
		return f.code
	}
}

// refusal says that nobody is left alone for long after it.
func (f fault) refusal() bool { return f.healed || f.code == codes.Unauthenticated }

func faultsAt(place string) []fault {
	return slices.DeleteFunc(slices.Clone(table), func(f fault) bool { return f.place != place })
}

var table = slices.Concat(vaultFaults, challengeFaults, objectFaults, tokenFaults, networkFaults, directFaults, loginFaults, metadataFaults)

// inVault gives the faults of each cell's vault.
func inVault(f devcloud.Fault) func(*world, []*cell) func() {
	return func(w *world, cells []*cell) func() {
		return w.inject(cells, func(c *cell) devcloud.Fault {
			f := f
			f.Service, f.Host, f.Text = devcloud.ServiceVault, c.vault.Host(), c.replaced(f.Text)
			return f
		})
	}
}

// inLogin gives the faults of each cell's directory.
func inLogin(f devcloud.Fault) func(*world, []*cell) func() {
	return func(w *world, cells []*cell) func() {
		return w.inject(cells, func(c *cell) devcloud.Fault {
			f := f
			f.Service, f.Path = devcloud.ServiceLogin, "/"+c.tenant+"/"+f.Path
			return f
		})
	}
}

// inMetadata gives the faults of each cell's managed identity.
func inMetadata(f devcloud.Fault) func(*world, []*cell) func() {
	return func(w *world, cells []*cell) func() {
		return w.inject(cells, func(c *cell) devcloud.Fault {
			f := f
			f.Service, f.Query = devcloud.ServiceIMDS, "client_id="+c.id
			return f
		})
	}
}

// inProxy gives the faults of CONNECT requests to each cell's vault, to which there is no connection any more.
func inProxy(f devcloud.Fault) func(*world, []*cell) func() {
	return func(w *world, cells []*cell) func() {
		return w.inject(cells, func(c *cell) devcloud.Fault {
			f := f
			f.Service, f.Host = devcloud.ServiceProxy, c.vault.Host()
			c.w.Cloud.Disconnect(c.vault.Host())
			return f
		})
	}
}

func (w *world) inject(cells []*cell, of func(*cell) devcloud.Fault) (clear func()) {
	var clears []func()
	for _, c := range cells {
		stop, err := w.Cloud.Inject(of(c))
		if err != nil {
			c.errorf("%v", err)
			continue
		}
		clears = append(clears, stop)
	}
	return func() {
		for _, stop := range clears {
			stop()
		}
	}
}

// toVaults does something to each cell's vault, and undoes it.
func toVaults(do, undo func(*cell)) func(*world, []*cell) func() {
	return func(_ *world, cells []*cell) func() {
		for _, c := range cells {
			do(c)
		}
		return func() {
			for _, c := range cells {
				undo(c)
			}
		}
	}
}

// showing has each vault show a certificate in new connections, of which the old are ended.
func showing(kind devcloud.ServerCertificate) func(*world, []*cell) func() {
	show := func(kind devcloud.ServerCertificate) func(*cell) {
		return func(c *cell) {
			if err := c.vault.SetServerCertificate(kind); err != nil {
				c.errorf("%v", err)
			}
			c.w.Cloud.Disconnect(c.vault.Host())
		}
	}
	return toVaults(show(kind), show(devcloud.ProperCertificate))
}

// clock puts the clock of each vault ahead.
func clock(ahead time.Duration) func(*world, []*cell) func() {
	return toVaults(func(c *cell) { c.vault.SetClock(ahead) }, func(c *cell) { c.vault.SetClock(0) })
}

// naming leads the name of each vault elsewhere.
func naming(wrong wrongName) func(*world, []*cell) func() {
	return func(w *world, cells []*cell) func() {
		var clears []func()
		for _, c := range cells {
			clears = append(clears, w.names.set(c.vault.Host(), wrong))
			w.Cloud.Disconnect(c.vault.Host())
		}
		return func() {
			for _, clear := range clears {
				clear()
			}
		}
	}
}

// tokenTimes are those of a service account token.
type tokenTimes struct{ from, life time.Duration } // from now on

func (t tokenTimes) inject(w *world, cells []*cell) (clear func()) {
	for _, c := range cells {
		w.lives.Store(c.volume.Name, t)
	}
	return func() {
		for _, c := range cells {
			w.lives.Delete(c.volume.Name)
		}
	}
}

func (t tokenTimes) of(v kubelet.Volume) devcloud.ServiceAccountToken {
	return devcloud.ServiceAccountToken{
		Namespace: v.Namespace, ServiceAccount: v.ServiceAccount, PodName: v.PodName(), PodUID: v.PodUID(),
		Issued: time.Now().Add(t.from), Life: t.life,
	}
}

func (c *cell) replaced(text string) string {
	return strings.NewReplacer("{host}", c.vault.Host(), "{tenant}", c.tenant).Replace(text)
}

// restoreVault makes a vault again that was removed, with what it held.
func (c *cell) restoreVault() {
	again, err := c.w.Cloud.AddVault(strings.TrimSuffix(c.vault.Host(), ".vault.azure.net"), devcloud.VaultOptions{Tenant: c.tenant})
	if err != nil {
		c.errorf("%v", err)
		return
	}
	again.Grant(c.id)
	again.SetSecret("value", "second", devcloud.SecretOptions{})
	c.vault = again
}

func setCertificate(c *cell) error {
	_, err := c.vault.SetCertificate("web-tls", devcloud.CertificateOptions{KeyType: devcloud.P256})
	return err
}

// mendCertificate puts a good version before the bad one.
func mendCertificate(c *cell) {
	if err := setCertificate(c); err != nil {
		c.errorf("%v", err)
	}
}
