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
// A text is the part behind `secrets[0]: secret "NAME" of URL as IDENTITY: `. {host} stands for the vault's host and {tenant} for its
// tenant. The error of a fault with objects, which is in an object's content, does not name the identity.
type fault struct {
	name   string
	setup  string
	warm   bool // another volume of the identity was there before
	alone  bool // it affects the whole node
	inject func(fx *fixture, cells []*cell) (clear func())

	within time.Duration // the volume's timeout; 0 means that the fault answers long before it
	code   codes.Code    // of a first publish
	says   string        // by a first publish
	again  string        // by a refresh, if that is another text

	healed bool // every call succeeds and has the new content

	objects, object, listed string // the attribute, and how an error names what is wrong, in it and in a list
	selects                 string // the attribute objects of a call with a list; empty: secrets is "*"
	prepare                 func(*cell) error

	advice string // to a user
}

// longEnough is the timeout of volumes during a fault that answers.
const longEnough = 40 * time.Second

func (f fault) timeout() time.Duration {
	if f.within != 0 {
		return f.within
	}
	return longEnough
}

// codeFor is the code of a call. A refresh is OK while the set is young, then Unavailable, whatever the fault.
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

// refusal reports whether the daemon asks again soon after the fault.
func (f fault) refusal() bool { return f.healed || f.code == codes.Unauthenticated }

func faultsOf(setup string) []fault {
	return slices.DeleteFunc(slices.Clone(table), func(f fault) bool { return f.setup != setup })
}

var table = slices.Concat(vaultFaults, challengeFaults, objectFaults, tokenFaults, networkFaults, directFaults, loginFaults, metadataFaults)

// inVault injects the fault into each cell's vault.
func inVault(f devcloud.Fault) func(*fixture, []*cell) func() {
	return func(fx *fixture, cells []*cell) func() {
		return fx.inject(cells, func(c *cell) devcloud.Fault {
			f := f
			f.Service, f.Host, f.Text = devcloud.ServiceVault, c.vault.Host(), c.replaced(f.Text)
			return f
		})
	}
}

// inLogin injects the fault into the login of each cell's tenant.
func inLogin(f devcloud.Fault) func(*fixture, []*cell) func() {
	return func(fx *fixture, cells []*cell) func() {
		return fx.inject(cells, func(c *cell) devcloud.Fault {
			f := f
			f.Service, f.Path = devcloud.ServiceLogin, "/"+c.tenant+"/"+f.Path
			return f
		})
	}
}

// inMetadata injects the fault into the metadata service, for each cell's managed identity.
func inMetadata(f devcloud.Fault) func(*fixture, []*cell) func() {
	return func(fx *fixture, cells []*cell) func() {
		return fx.inject(cells, func(c *cell) devcloud.Fault {
			f := f
			f.Service, f.Query = devcloud.ServiceIMDS, "client_id="+c.id
			return f
		})
	}
}

// inProxy injects the fault into CONNECT requests to each cell's vault, and closes the connections to it.
func inProxy(f devcloud.Fault) func(*fixture, []*cell) func() {
	return func(fx *fixture, cells []*cell) func() {
		return fx.inject(cells, func(c *cell) devcloud.Fault {
			f := f
			f.Service, f.Host = devcloud.ServiceProxy, c.vault.Host()
			c.fx.Cloud.Disconnect(c.vault.Host())
			return f
		})
	}
}

func (fx *fixture) inject(cells []*cell, of func(*cell) devcloud.Fault) (clear func()) {
	var clears []func()
	for _, c := range cells {
		stop, err := fx.Cloud.Inject(of(c))
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

// toVaults changes each cell's vault, and undoes it.
func toVaults(do, undo func(*cell)) func(*fixture, []*cell) func() {
	return func(_ *fixture, cells []*cell) func() {
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

// showing makes each vault use another TLS certificate, and closes the connections to it.
func showing(kind devcloud.ServerCertificate) func(*fixture, []*cell) func() {
	show := func(kind devcloud.ServerCertificate) func(*cell) {
		return func(c *cell) {
			if err := c.vault.SetServerCertificate(kind); err != nil {
				c.errorf("%v", err)
			}
			c.fx.Cloud.Disconnect(c.vault.Host())
		}
	}
	return toVaults(show(kind), show(devcloud.ProperCertificate))
}

// clock changes the clock of each vault.
func clock(ahead time.Duration) func(*fixture, []*cell) func() {
	return toVaults(func(c *cell) { c.vault.SetClock(ahead) }, func(c *cell) { c.vault.SetClock(0) })
}

// naming changes what the DNS answers for the name of each vault.
func naming(wrong dnsAnswer) func(*fixture, []*cell) func() {
	return func(fx *fixture, cells []*cell) func() {
		var clears []func()
		for _, c := range cells {
			clears = append(clears, fx.dns.set(c.vault.Host(), wrong))
			fx.Cloud.Disconnect(c.vault.Host())
		}
		return func() {
			for _, clear := range clears {
				clear()
			}
		}
	}
}

// tokenTimes are when a service account token is issued, and its lifetime.
type tokenTimes struct{ from, life time.Duration } // from now on

func (t tokenTimes) inject(fx *fixture, cells []*cell) (clear func()) {
	for _, c := range cells {
		fx.times.Store(c.volume.Name, t)
	}
	return func() {
		for _, c := range cells {
			fx.times.Delete(c.volume.Name)
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

// restoreVault creates a removed vault again, with its content.
func (c *cell) restoreVault() {
	again, err := c.fx.Cloud.AddVault(strings.TrimSuffix(c.vault.Host(), ".vault.azure.net"), devcloud.VaultOptions{Tenant: c.tenant})
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

// setValues prepares the secrets of the faults of files of values.
func setValues(c *cell) error {
	c.vault.SetSecret("app-url", "https://example.com", devcloud.SecretOptions{})
	c.vault.SetSecret("db", `{"password": "hunter2"}`, devcloud.SecretOptions{})
	return nil
}

func repairValues(c *cell) { _ = setValues(c) }

// repairCertificate adds a good version after the bad one.
func repairCertificate(c *cell) {
	if err := setCertificate(c); err != nil {
		c.errorf("%v", err)
	}
}
