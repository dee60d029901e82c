package login

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

func newTokens() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "keyvault_csi_token_requests_total",
		Help: "Logins by kind of identity and HTTP status of the refusal (200: a token; none: no answer, or no refusal).",
	}, []string{"identity", "code"})
}

// count counts one token request. err is reduced.
func (l *Logins) count(kind volume.IdentityKind, err error) {
	code := "none"
	if answer, ok := errors.AsType[*azure.Answer](err); ok && (azure.Refused(err) || !refuses(answer.Status)) {
		code = strconv.Itoa(answer.Status)
	} else if err == nil {
		code = "200"
	}
	l.tokens.WithLabelValues(string(kind), code).Inc()
}

// refuses reports whether a status looks like a refusal, so that the alert about refused logins counts it.
func refuses(status int) bool {
	return status >= 400 && status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests
}
