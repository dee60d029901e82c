package login

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"k8s.io/klog/v2/textlogger"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// While a token is good nobody waits for its renewal, so that the log alone says why that fails: once for each reason.
func TestAFailedRenewalIsLogged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		a := &authority{life: time.Hour}
		key := Key{kind: volume.Workload, clientID: clientID, tenant: "contoso", namespace: "shop", serviceAccount: "web"}
		l := newLogins(t, Options{Logger: textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(&log)))}).newLogin(key, a)
		get := func() {
			_, _ = l.GetToken(t.Context(), policy.TokenRequestOptions{})
			synctest.Wait()
		}
		get()
		pass(55*time.Minute + time.Second)
		expired, unknown := &azure.Answer{Status: 401, Codes: []string{"AADSTS7000222"}}, &azure.Answer{Status: 400, Codes: []string{"AADSTS700016"}}
		const line = `"a token is not renewed, and used until its end" err="%s" identity="workload ` + clientID + `" tenant="contoso" namespace="shop" serviceAccount="web"`
		for i, step := range []struct {
			err   error
			lines []string // of the log until then
		}{
			{expired, []string{"HTTP 401 AADSTS7000222"}},
			{expired, []string{"HTTP 401 AADSTS7000222"}},
			{unknown, []string{"HTTP 401 AADSTS7000222", "HTTP 400 AADSTS700016"}},
			{expired, []string{"HTTP 401 AADSTS7000222", "HTTP 400 AADSTS700016", "HTTP 401 AADSTS7000222"}},
			{nil, []string{"HTTP 401 AADSTS7000222", "HTTP 400 AADSTS700016", "HTTP 401 AADSTS7000222"}},
		} {
			a.set(func(a *authority) { a.err = step.err })
			get()
			pass(refreshPause)
			for _, reason := range step.lines {
				if !strings.Contains(log.String(), fmt.Sprintf(line, reason)) {
					t.Errorf("step %d: no line that %s:\n%s", i, reason, &log)
				}
			}
			if n := strings.Count(log.String(), "\n"); n != len(step.lines) {
				t.Errorf("step %d: %d lines, want %d:\n%s", i, n, len(step.lines), &log)
			}
		}
		a.set(func(a *authority) { a.err = expired })
		pass(2 * time.Hour)
		before := log.Len()
		if get(); log.Len() > before {
			t.Errorf("the failure of a login, which the pods report, is logged: %s", log.String()[before:])
		}
	})
}
