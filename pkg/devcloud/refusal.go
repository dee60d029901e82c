package devcloud

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// refusal is an error answer of Key Vault.
type refusal struct {
	status             int
	code, message      string
	inner              string // innererror.code; empty means there is none
	challenge, allowed string // the headers WWW-Authenticate and Allow
}

func (r *refusal) Error() string { return r.message }

func (r *refusal) write(w http.ResponseWriter) {
	if r.challenge != "" {
		w.Header().Set("WWW-Authenticate", r.challenge)
	}
	if r.allowed != "" {
		w.Header().Set("Allow", r.allowed)
	}
	writeJSON(w, r.status, r.body())
}

// body is the JSON of Azure's errors: {"error":{"code","message","innererror":{"code"}}}.
func (r *refusal) body() any {
	type code struct {
		Code string `json:"code"`
	}
	var out struct {
		Error struct {
			code
			Message string `json:"message"`
			Inner   *code  `json:"innererror,omitempty"`
		} `json:"error"`
	}
	out.Error.Code, out.Error.Message = r.code, r.message
	if r.inner != "" {
		out.Error.Inner = &code{r.inner}
	}
	return out
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write(text) // the client may have disconnected
}
