package devcloud

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"sync"
	"syscall"
	"time"
)

// Options are the options of Start. The zero value is an empty public cloud on free loopback ports.
type Options struct {
	// The listen addresses, host:port; empty means a free port on 127.0.0.1, or on ::1 where IPv4 is missing.
	Listen      string // TLS: vaults and login hosts
	ProxyListen string // the CONNECT proxy
	AdminListen string // the admin API
	IMDSListen  string // the instance metadata service

	// CustomVaultSuffix and CustomLoginHost add a custom cloud beside the three of Azure, for example
	// "vault.local.azurestack.external" and "login.local.azurestack.external". Both or neither.
	CustomVaultSuffix string
	CustomLoginHost   string

	// TokenLife is the lifetime of access tokens. 0 means one hour, as usual in Entra ID.
	TokenLife time.Duration

	// Now is the clock of tokens, assertions and timestamps. nil means time.Now.
	Now func() time.Time
}

// Cloud is a running Key Vault, Entra ID and instance metadata service. Its methods are safe for concurrent use, also
// during requests.
type Cloud struct {
	now       func() time.Time
	nations   []nation
	authority *authority
	signer    *signer
	issuing   issuing

	tlsListener, proxyListener, adminListener, imdsListener net.Listener

	ctx     context.Context // ends with Close, and with it everything that waits
	cancel  context.CancelFunc
	servers []*http.Server
	running sync.WaitGroup // servers, handlers and tunnels

	mu          sync.Mutex
	closed      bool
	tokenLife   time.Duration
	vaults      map[string]*Vault  // by host, lower case
	tenants     map[string]*tenant // by id and by domain, lower case
	issuers     map[string]keySet  // by issuer URL
	unreachable map[string]bool    // issuers, by URL, see SetIssuerReachable
	faults      []*activeFault     // in the order of Inject
	counts      map[CountKey]int   // every request since the last reset
	requests    []*Request         // the newest maxRequests of them
	epoch       int                // number of resets of the counts
	arrived     chan struct{}      // closed and replaced with every change of counts
	tunnels     map[net.Conn]bool  // client sides of CONNECT, to be closed with the cloud
	minters     map[string]*Issuer // issuers that NewIssuer made, by URL
	keyed       int                // how many issuers have been made, see signingKey

	connections map[net.Conn]string // of all servers but the admin API's, with the host that they are for; empty without TLS
}

// Start starts a cloud. It serves until Close is called or ctx ends.
func Start(ctx context.Context, opts Options) (*Cloud, error) {
	nations, err := opts.nations()
	if err != nil {
		return nil, err
	}
	ca, err := newAuthority()
	if err != nil {
		return nil, err
	}
	c := &Cloud{
		now:         opts.Now,
		nations:     nations,
		authority:   ca,
		signer:      newSigner(),
		tokenLife:   opts.TokenLife,
		vaults:      map[string]*Vault{},
		tenants:     map[string]*tenant{},
		issuers:     map[string]keySet{},
		unreachable: map[string]bool{},
		counts:      map[CountKey]int{},
		arrived:     make(chan struct{}),
		tunnels:     map[net.Conn]bool{},
		minters:     map[string]*Issuer{},

		connections: map[net.Conn]string{},
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.tokenLife == 0 {
		c.tokenLife = time.Hour
	}
	c.ctx, c.cancel = context.WithCancel(ctx)
	if err := c.listen(opts); err != nil {
		c.cancel()
		c.shutdown()
		return nil, err
	}
	c.serve()
	c.running.Go(func() {
		<-c.ctx.Done()
		c.shutdown()
	})
	return c, nil
}

func (c *Cloud) listen(opts Options) error {
	for _, l := range []struct {
		listener *net.Listener
		address  string
	}{
		{&c.tlsListener, opts.Listen},
		{&c.proxyListener, opts.ProxyListen},
		{&c.adminListener, opts.AdminListen},
		{&c.imdsListener, opts.IMDSListen},
	} {
		listener, err := listen(c.ctx, l.address)
		if err != nil {
			return err
		}
		*l.listener = listener
	}
	return nil
}

// listen takes a free port of the loopback interface if address is empty.
func listen(ctx context.Context, address string) (net.Listener, error) {
	var config net.ListenConfig
	if address != "" {
		return config.Listen(ctx, "tcp", address)
	}
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		return config.Listen(ctx, "tcp", "[::1]:0")
	}
	return listener, err
}

func (c *Cloud) serve() {
	secure := c.newServer(c.observe(http.HandlerFunc(c.serveTLS)))
	secure.TLSConfig = &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: c.certificateFor,
	}
	secure.ConnState = c.connected
	c.run(func() error { return secure.ServeTLS(c.tlsListener, "", "") })
	for _, s := range []struct {
		listener net.Listener
		handler  http.Handler
	}{
		{c.proxyListener, http.HandlerFunc(c.serveProxy)},
		{c.imdsListener, c.observe(http.HandlerFunc(c.serveIMDS))},
		{c.adminListener, c.adminHandler()},
	} {
		server := c.newServer(s.handler)
		if s.listener != c.adminListener { // one of its calls ends all other connections
			server.ConnState = c.connected
		}
		c.run(func() error { return server.Serve(s.listener) })
	}
}

func (c *Cloud) newServer(handler http.Handler) *http.Server {
	server := &http.Server{
		Handler:           c.tracked(handler),
		ReadHeaderTimeout: time.Minute,
		BaseContext:       func(net.Listener) context.Context { return c.ctx },
		ConnContext:       withConn,
		ErrorLog:          log.New(io.Discard, "", 0), // clients that break off a handshake are expected
	}
	c.servers = append(c.servers, server)
	return server
}

func (c *Cloud) run(serve func() error) {
	c.running.Go(func() { _ = serve() })
}

// tracked lets Close wait for the handlers, which http.Server.Close does not.
func (c *Cloud) tracked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		closed := c.closed
		if !closed {
			c.running.Add(1)
		}
		c.mu.Unlock()
		if closed {
			panic(http.ErrAbortHandler)
		}
		defer c.running.Done()
		next.ServeHTTP(w, r)
	})
}

// Close stops the cloud and ends all requests, also hanging ones. It returns when nothing runs any more. It may be called
// more than once.
func (c *Cloud) Close() {
	c.cancel()
	c.running.Wait()
}

// shutdown ends everything that Close waits for.
func (c *Cloud) shutdown() {
	c.mu.Lock()
	c.closed = true
	for conn := range c.tunnels {
		_ = conn.Close()
	}
	c.mu.Unlock()
	for _, s := range c.servers {
		_ = s.Close()
	}
	for _, l := range []net.Listener{c.tlsListener, c.proxyListener, c.adminListener, c.imdsListener} {
		if l != nil {
			_ = l.Close() // if a server has not closed it
		}
	}
}

// CA is the PEM bundle that a client must trust: the content of SSL_CERT_FILE or of the driver's --ca-bundle.
func (c *Cloud) CA() []byte { return c.authority.pem() }

// TLSAddr is the host:port of the vaults and login hosts, which are selected by SNI and Host.
func (c *Cloud) TLSAddr() string { return c.tlsListener.Addr().String() }

// ProxyURL is the value for HTTPS_PROXY, for example "http://127.0.0.1:41000".
func (c *Cloud) ProxyURL() string { return "http://" + c.proxyListener.Addr().String() }

// AdminURL is the root of the admin API. GET explains it.
func (c *Cloud) AdminURL() string { return "http://" + c.adminListener.Addr().String() }

// IMDSURL is the root of the instance metadata service, http://169.254.169.254 in Azure.
func (c *Cloud) IMDSURL() string { return "http://" + c.imdsListener.Addr().String() }

// HTTPClient returns a new client that uses the proxy and trusts the CA. Requests to 169.254.169.254 go to the cloud's
// metadata service. It can be the Transport in the client options of the Azure SDK.
func (c *Cloud) HTTPClient() *http.Client {
	proxy := &url.URL{Scheme: "http", Host: c.proxyListener.Addr().String()}
	return &http.Client{Transport: &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.authority.pool()},
		Proxy: func(r *http.Request) (*url.URL, error) {
			if r.URL.Scheme != "https" {
				return nil, nil
			}
			return proxy, nil
		},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if address == "169.254.169.254:80" {
				address = c.imdsListener.Addr().String()
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}}
}

// SetTokenLife sets the lifetime of access tokens that are issued from now on.
func (c *Cloud) SetTokenLife(life time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tokenLife = life
}
