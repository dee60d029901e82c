package devcloud

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// serveVault serves the read operations of a vault's data plane.
func (c *Cloud) serveVault(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-cache")
	h.Set("Pragma", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Strict-Transport-Security", "max-age=31536000;includeSubDomains")
	h.Set("x-ms-keyvault-region", location)
	h.Set("x-ms-keyvault-service-version", "1.9.2746.1")
	h.Set("x-ms-keyvault-network-info", "conn_type=Ipv4;addr=192.0.2.1;act_addr_fam=InterNetwork;")
	h.Set("x-ms-request-id", newGUID())
	if id := r.Header.Get("x-ms-client-request-id"); id != "" {
		h.Set("x-ms-client-request-id", id)
	}

	if vault := c.Vault(hostOf(r)); vault != nil {
		h.Set("Date", vault.now().UTC().Format(http.TimeFormat)) // of the clock that sets created and updated
	}
	body, err := c.answer(r)
	if refused, ok := errors.AsType[*refusal](err); ok {
		refused.write(w)
		return
	}
	writeJSON(w, http.StatusOK, body)
}

const location = "westeurope"

// operation is a parsed request to a vault.
type operation struct {
	vault         *Vault
	kind          Kind
	name, version string
	list          bool // of all objects, or of the versions of name
	who           caller
	query         url.Values
}

// answer checks a request in the order of Azure: token, method and version of the API, path, firewall, rights, object.
func (c *Cloud) answer(r *http.Request) (any, error) {
	c.mu.Lock()
	vault := c.vaults[hostOf(r)]
	c.mu.Unlock()
	if vault == nil { // removed after the handshake of this connection
		return nil, &refusal{status: http.StatusNotFound, code: "VaultNotFound", message: "no such host " + hostOf(r)}
	}
	who, err := c.authenticate(vault, r)
	if err != nil {
		return nil, err
	}
	c.identified(r, who.clientID)
	op, err := parse(vault, r)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := vault.authorize(who, op, r.RemoteAddr); err != nil {
		return nil, err
	}
	op.who = who
	body, err := op.run()
	if err != nil {
		return nil, err
	}
	// Encoded under the lock, because the answer points into the vault.
	text, err := json.Marshal(body)
	return json.RawMessage(text), err
}

var (
	objectName    = regexp.MustCompile(`^[0-9a-zA-Z-]{1,127}$`)
	objectVersion = regexp.MustCompile(`^[0-9a-fA-F]{32}$`)
	apiVersion    = regexp.MustCompile(`^(7\.[0-6](-preview\.\d)?|20[12]\d-[01]\d-[0-3]\d(-preview)?)$`)
)

// parse accepts a slash at the end: the Azure SDKs send one in place of the version.
func parse(vault *Vault, r *http.Request) (operation, error) {
	op := operation{vault: vault, query: r.URL.Query()}
	if r.Method != http.MethodGet {
		return op, &refusal{
			status: http.StatusMethodNotAllowed, code: "BadParameter", allowed: http.MethodGet,
			message: fmt.Sprintf("Method %s is not allowed. The dev cloud only reads; its admin API writes.", r.Method),
		}
	}
	switch v := op.query.Get("api-version"); {
	case v == "":
		return op, badParameter("api-version must be specified")
	case !apiVersion.MatchString(v):
		return op, badParameter("The specified version (" + v + ") is not recognized. " +
			"Consider using the latest supported version (2026-04-01).")
	}
	parts := strings.Split(strings.TrimSuffix(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/"), "/")
	op.kind = Kind(parts[0])
	if !slices.Contains([]Kind{Secrets, Certificates, Keys}, op.kind) || len(parts) > 3 {
		return op, &refusal{status: http.StatusNotFound, code: "NotFound", message: "Resource not found"}
	}
	if len(parts) == 1 {
		op.list = true
		return op, nil
	}
	if op.name = parts[1]; !objectName.MatchString(op.name) {
		return op, badParameter("The request URI contains an invalid name: " + op.name)
	}
	if len(parts) == 3 {
		op.version = parts[2]
		op.list = op.version == "versions"
		if !op.list && !objectVersion.MatchString(op.version) {
			return op, badParameter("The request URI contains an invalid version: " + op.version)
		}
	}
	return op, nil
}

func badParameter(message string) error {
	return &refusal{status: http.StatusBadRequest, code: "BadParameter", message: message}
}

// singular is the form of the kind in texts and codes.
func (k Kind) singular() string { return strings.TrimSuffix(string(k), "s") }

// run reads the vault. The caller must hold c.mu.
func (op operation) run() (any, error) {
	if op.list {
		return op.page()
	}
	o, ver := op.vault.find(op.kind, op.name, op.version)
	if ver == nil {
		return nil, op.notFound()
	}
	singular := op.kind.singular()
	if ver.disabled && op.kind == Secrets { // disabled certificates and keys can be read
		return nil, &refusal{
			status: http.StatusForbidden, code: "Forbidden", inner: "SecretDisabled",
			message: "Operation get is not allowed on a disabled " + singular + ".",
		}
	}
	switch op.kind {
	case Certificates:
		return op.vault.certificateBundle(o, ver), nil
	case Keys:
		return op.vault.keyBundle(o, ver), nil
	default:
		return op.vault.secretBundle(o, ver, op.who), nil
	}
}

func (op operation) notFound() *refusal {
	singular := op.kind.singular()
	id := op.name
	if op.version != "" && op.version != "versions" {
		id += "/" + op.version
	}
	return &refusal{
		status: http.StatusNotFound,
		code:   strings.ToUpper(singular[:1]) + singular[1:] + "NotFound",
		message: "A " + singular + " with (name/id) " + id + " was not found in this key vault. " +
			"If you recently deleted this " + singular + " you may be able to recover it using the correct recovery command. " +
			"For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125182",
	}
}

// pageSize is the largest number of items in one answer of Key Vault, see [Vault.SetPageSize].
const pageSize = 25

// SetPageSize changes how many items of a list an answer has at most, for tests of long lists.
func (v *Vault) SetPageSize(items int) {
	v.cloud.mu.Lock()
	defer v.cloud.mu.Unlock()
	v.pageSize = items
}

// shortPages are how many items are missing from the pages that begin at an index: the first and the fifth, as in a
// recorded list. Also a page that is not full may have a next one.
var shortPages = map[int]int{0: 1, 99: 2}

// page returns one page of a list, with the link to the next. The caller must hold c.mu.
func (op operation) page() (any, error) {
	size := op.vault.pageSize
	if text := op.query.Get("maxresults"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > pageSize {
			return nil, badParameter("Invalid 'maxresults' value: it must be between 1 and 25")
		}
		size = n
	}
	items, err := op.items()
	if err != nil {
		return nil, err
	}
	start := 0
	if token := op.query.Get("$skiptoken"); token != "" {
		// The link names the next item instead of counting, so that concurrent changes do not shift the others.
		from, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil {
			return nil, badParameter("The skiptoken is not valid")
		}
		start = sort.Search(items.count, func(i int) bool { return items.key(i) >= string(from) })
	}
	end := min(start+size, items.count)
	if missing, ok := shortPages[start]; ok && size == pageSize && end < items.count {
		end -= missing
	}
	var next *string
	if end < items.count {
		// Key Vault names the port, and encodes nothing.
		path := strings.TrimPrefix(op.vault.id(op.kind, op.name, op.version), op.vault.URL())
		link := op.vault.URL() + ":443" + strings.TrimSuffix(path, "/") +
			"?api-version=" + op.query.Get("api-version") + "&$skiptoken=" + base64.RawURLEncoding.EncodeToString([]byte(items.key(end)))
		if op.query.Has("maxresults") {
			link += "&maxresults=" + strconv.Itoa(size)
		}
		next = &link
	}
	page := make([]any, 0, size)
	for i := start; i < end; i++ {
		page = append(page, items.item(i))
	}
	return struct {
		Value    []any   `json:"value"`
		NextLink *string `json:"nextLink"`
	}{page, next}, nil
}

// items are those of a list. Functions make them, because a page has 25 of thousands.
type items struct {
	count int
	key   func(i int) string // sorted
	item  func(i int) any
}

func (op operation) items() (all items, err error) {
	if op.name == "" {
		live := op.vault.live(op.kind)
		return items{
			len(live),
			func(i int) string { return strings.ToLower(live[i].name) },
			func(i int) any {
				return op.vault.item(op.kind, op.vault.id(op.kind, live[i].name, ""), live[i].latest())
			},
		}, nil
	}
	o, _ := op.vault.find(op.kind, op.name, "")
	switch {
	case o == nil && op.kind == Certificates: // as recorded
		return items{}, nil
	case o == nil:
		return items{}, op.notFound()
	}
	return items{
		len(o.versions),
		func(i int) string { return fmt.Sprintf("%09d", i) },
		func(i int) any {
			return op.vault.item(op.kind, op.vault.id(op.kind, o.name, o.versions[i].id), o.versions[i])
		},
	}, nil
}

func (v *Vault) item(kind Kind, id string, ver *version) any {
	switch kind {
	case Certificates:
		return v.certificateItem(id, ver)
	case Keys:
		return v.keyItem(id, ver)
	default:
		return v.secretItem(id, ver)
	}
}
