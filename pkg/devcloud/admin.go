package devcloud

import (
	"cmp"
	"crypto/x509"
	_ "embed" // for adminHelp
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// adminHelp is the answer to GET /.
//
//go:embed admin_help.txt
var adminHelp []byte

// adminHandler serves the admin API.
func (c *Cloud) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write(adminHelp)
	})
	mux.HandleFunc("GET /counts", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, c.countList()) })
	mux.HandleFunc("GET /requests", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, c.Requests()) })
	mux.HandleFunc("DELETE /counts", func(w http.ResponseWriter, _ *http.Request) { c.ResetCounts(); writeJSON(w, http.StatusOK, done) })
	mux.HandleFunc("DELETE /faults", func(w http.ResponseWriter, _ *http.Request) { c.ClearFaults(); writeJSON(w, http.StatusOK, done) })
	mux.Handle("POST /secrets", post(c.adminSecret))
	mux.Handle("POST /certificates", post(c.adminCertificate))
	mux.Handle("POST /keys", post(c.adminKey))
	mux.Handle("POST /rotate", c.onObject(func(v *Vault, o adminObject) (any, error) {
		id, err := v.Rotate(o.Kind, o.Name)
		return adminVersion{id}, err
	}))
	mux.Handle("POST /disable", c.onObject(func(v *Vault, o adminObject) (any, error) { return done, v.Disable(o.Kind, o.Name, o.Version) }))
	mux.Handle("POST /enable", c.onObject(func(v *Vault, o adminObject) (any, error) { return done, v.Enable(o.Kind, o.Name, o.Version) }))
	mux.Handle("POST /delete", c.onObject(func(v *Vault, o adminObject) (any, error) { return done, v.Delete(o.Kind, o.Name) }))
	mux.Handle("POST /vaults", post(c.adminVault))
	mux.Handle("POST /identities", post(c.adminIdentity))
	mux.Handle("POST /grant", post(func(a adminAccess) (any, error) { return c.adminAccess(a, (*Vault).Grant) }))
	mux.Handle("POST /deny", post(func(a adminAccess) (any, error) { return c.adminAccess(a, (*Vault).Deny) }))
	mux.Handle("POST /firewall", c.onVault((*Vault).SetFirewall))
	mux.Handle("POST /public-access", c.onVault((*Vault).SetPublicAccess))
	mux.Handle("POST /clock", post(c.adminClock))
	mux.Handle("POST /server-certificate", post(c.adminServerCertificate))
	mux.Handle("POST /disconnect", post(func(in struct{ Host string }) (any, error) { c.Disconnect(in.Host); return done, nil }))
	mux.Handle("POST /issuers", post(c.adminIssuer))
	mux.Handle("POST /tokens", post(c.adminTokens))
	mux.Handle("POST /token-life", post(c.adminTokenLife))
	mux.Handle("POST /faults", post(c.adminFault))
	return mux
}

var done = struct{}{}

type adminVersion struct {
	Version string `json:"version"`
}

// post decodes the body, refuses unknown fields, and writes the result of f.
func post[T any](f func(T) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in T
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 16<<20))
		d.DisallowUnknownFields()
		if err := d.Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		out, err := f(in)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		writeJSON(w, http.StatusOK, out)
	})
}

func (c *Cloud) named(vault string) (*Vault, error) {
	if v := c.Vault(vault); v != nil {
		return v, nil
	}
	return nil, fmt.Errorf("devcloud: no vault %q", vault)
}

type adminObject struct {
	Vault         string
	Kind          Kind
	Name, Version string
}

func (c *Cloud) onObject(f func(*Vault, adminObject) (any, error)) http.Handler {
	return post(func(o adminObject) (any, error) {
		v, err := c.named(o.Vault)
		if err != nil {
			return nil, err
		}
		o.Kind = cmp.Or(o.Kind, Secrets)
		return f(v, o)
	})
}

func (c *Cloud) adminSecret(in struct {
	Vault, Name, Value string
	SecretOptions
}) (any, error) {
	v, err := c.named(in.Vault)
	if err != nil {
		return nil, err
	}
	return adminVersion{v.SetSecret(in.Name, in.Value, in.SecretOptions)}, nil
}

func (c *Cloud) adminCertificate(in struct {
	Vault, Name string
	CertificateOptions
}) (any, error) {
	v, err := c.named(in.Vault)
	if err != nil {
		return nil, err
	}
	cert, err := v.SetCertificate(in.Name, in.CertificateOptions)
	if err != nil {
		return nil, err
	}
	return adminVersion{cert.Version}, nil
}

func (c *Cloud) adminKey(in struct {
	Vault, Name, Version string
	KeyType              KeyType
	Tags                 map[string]string
	Disabled             bool
}) (any, error) {
	v, err := c.named(in.Vault)
	if err != nil {
		return nil, err
	}
	id, err := v.SetKey(in.Name, KeyOptions{Version: in.Version, KeyType: in.KeyType, Tags: in.Tags, Disabled: in.Disabled})
	return adminVersion{id}, err
}

func (c *Cloud) adminVault(in struct {
	Name string
	VaultOptions
}) (any, error) {
	v, err := c.AddVault(in.Name, in.VaultOptions)
	if err != nil {
		return nil, err
	}
	return map[string]string{"url": v.URL()}, nil
}

func (c *Cloud) adminIdentity(in struct {
	Identity
	Certificates string // PEM
}) (any, error) {
	for rest := []byte(in.Certificates); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return done, c.AddIdentity(in.Identity)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		in.Identity.Certificates = append(in.Identity.Certificates, cert)
	}
}

type adminAccess struct {
	Vault, ClientID string
	Rights          []Right
}

func (c *Cloud) adminAccess(in adminAccess, change func(*Vault, string, ...Right)) (any, error) {
	v, err := c.named(in.Vault)
	if err != nil {
		return nil, err
	}
	change(v, in.ClientID, in.Rights...)
	return done, nil
}

// onVault switches something of a vault.
func (c *Cloud) onVault(set func(v *Vault, on bool)) http.Handler {
	return post(func(in struct {
		Vault string
		On    bool
	}) (any, error) {
		v, err := c.named(in.Vault)
		if err != nil {
			return nil, err
		}
		set(v, in.On)
		return done, nil
	})
}

func (c *Cloud) adminIssuer(in struct {
	URL       string
	JWKS      json.RawMessage
	Reachable *bool
}) (any, error) {
	if in.URL == "" {
		return nil, errors.New("devcloud: an issuer needs a url")
	}
	if in.Reachable != nil {
		c.SetIssuerReachable(in.URL, *in.Reachable)
		return done, nil
	}
	if in.JWKS == nil {
		c.NewIssuer(in.URL)
		return done, nil
	}
	return done, c.TrustIssuer(in.URL, in.JWKS)
}

// duration reads "1h30m" from JSON.
type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = duration(parsed)
	return err
}

func (c *Cloud) adminTokens(in struct {
	Issuer string
	Life   duration
	ServiceAccountToken
}) (any, error) {
	issuer := c.Issuer(in.Issuer)
	if issuer == nil {
		return nil, fmt.Errorf("devcloud: no issuer %q of which the key is known", in.Issuer)
	}
	in.ServiceAccountToken.Life = time.Duration(in.Life)
	token, err := issuer.Token(in.ServiceAccountToken)
	return map[string]string{"token": token}, err
}

func (c *Cloud) adminTokenLife(in struct{ Life duration }) (any, error) {
	if in.Life <= 0 {
		return nil, errors.New("devcloud: tokens need a life")
	}
	c.SetTokenLife(time.Duration(in.Life))
	return done, nil
}

func (c *Cloud) adminFault(in struct {
	Fault
	RetryAfter, Delay, Window duration
}) (any, error) {
	in.Fault.RetryAfter, in.Fault.Delay, in.Fault.Window = time.Duration(in.RetryAfter), time.Duration(in.Delay), time.Duration(in.Window)
	in.Action = Action(strings.ToLower(string(in.Action)))
	_, err := c.Inject(in.Fault)
	return done, err
}

func (c *Cloud) countList() any {
	type line struct {
		CountKey
		Count int `json:"count"`
	}
	lines := []line{}
	for key, n := range c.Counts() {
		lines = append(lines, line{key, n})
	}
	slices.SortFunc(lines, func(a, b line) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Status, b.Status))
	})
	return lines
}
