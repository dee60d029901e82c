package login

import (
	"errors"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

func newTokens() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "keyvault_csi_token_requests_total",
		Help: "Logins by kind of identity and HTTP status of the refusal (200: a token; none: no answer).",
	}, []string{"identity", "code"})
}

// count counts one token request. err is reduced.
func (l *Logins) count(kind volume.IdentityKind, err error) {
	code := "none"
	if answer, ok := errors.AsType[*azure.Answer](err); ok {
		code = strconv.Itoa(answer.Status)
	} else if err == nil {
		code = "200"
	}
	l.tokens.WithLabelValues(string(kind), code).Inc()
}
