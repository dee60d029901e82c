package login

import (
	"net/http"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"k8s.io/klog/v2"

	"github.com/keyvault-csi/keyvault-csi/pkg/azure"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// pass waits in a synctest bubble.
func pass(d time.Duration) { <-time.After(d) }

// newLogins makes logins in the public cloud, with the clock of the test unless the options have another.
func newLogins(tb testing.TB, o Options) *Logins {
	tb.Helper()
	cloud, err := azure.CloudByName("AzurePublicCloud", "", "")
	if err != nil {
		tb.Fatal(err)
	}
	o.Cloud, o.Sender, o.Metadata = cloud, azure.NewSender(nil, nil, klog.Logger{}), azure.NewMetadataSender(time.Second, klog.Logger{})
	if o.Now == nil {
		o.Now = time.Now
	}
	o.After = time.After
	l, err := New(o, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// newLogin makes the login of a workload identity whose tokens come from a credential.
func newLogin(tb testing.TB, credential azcore.TokenCredential) *Login {
	tb.Helper()
	return newLogins(tb, Options{}).newLogin(Key{kind: volume.Workload, tenant: "contoso"}, credential)
}
