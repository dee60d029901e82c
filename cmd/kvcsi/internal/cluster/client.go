// Package cluster reads pods, events and the driver of a cluster, with the rights of whoever calls kubectl.
//
// It sends GET requests and forwards ports, and changes nothing. It must not know what the volumes mean. It declares the few fields of
// the API that it reads, so that the types of the whole API are not linked.
package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/pflag"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // what a kubeconfig may name as its login
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// requestTimeout bounds a request if --request-timeout does not.
const requestTimeout = 30 * time.Second

// The errors that a caller treats in its own way.
var (
	ErrForbidden = errors.New("forbidden")
	ErrNotFound  = errors.New("not found")
)

// Flags are kubectl's flags of a connection: --kubeconfig, --context, --namespace, --as and so on.
type Flags struct {
	rules     *clientcmd.ClientConfigLoadingRules
	overrides *clientcmd.ConfigOverrides
}

// AddFlags adds kubectl's flags of a connection.
func AddFlags(to *pflag.FlagSet) *Flags {
	f := &Flags{clientcmd.NewDefaultClientConfigLoadingRules(), &clientcmd.ConfigOverrides{}}
	to.StringVar(&f.rules.ExplicitPath, "kubeconfig", "", "path of the kubeconfig; default: $KUBECONFIG, or ~/.kube/config")
	names := clientcmd.RecommendedConfigOverrideFlags("")
	names.ContextOverrideFlags.Namespace.ShortName = "n"
	clientcmd.BindOverrideFlags(f.overrides, to, names)
	return f
}

// Client reads from one API server.
type Client struct {
	Namespace string // that of the flags or of the context

	config *rest.Config
	rest   rest.Interface
}

// Connect reads the kubeconfig. It sends no request.
func (f *Flags) Connect() (*Client, error) {
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(f.rules, f.overrides)
	config, err := loader.ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err):
		return nil, errors.New("there is no kubeconfig: name one with --kubeconfig, or set KUBECONFIG; kubectl config view shows what kubectl uses")
	case err != nil:
		return nil, fmt.Errorf("the kubeconfig cannot be used: %w", err)
	}
	c := &Client{config: config}
	if c.Namespace, _, err = loader.Namespace(); err != nil {
		return nil, fmt.Errorf("the kubeconfig cannot be used: %w", err)
	}
	// Only the errors of the API server are decoded, so that no type of the API is linked.
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	config.APIPath = "/api"
	config.GroupVersion = &schema.GroupVersion{Version: "v1"}
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	config.UserAgent = "kvcsi"
	config.QPS, config.Burst = 50, 300 // as kubectl; the API server protects itself
	if config.Timeout == 0 {
		config.Timeout = requestTimeout
	}
	c.rest, err = rest.RESTClientFor(config)
	return c, err
}

// Timeout bounds each request.
func (c *Client) Timeout() time.Duration { return c.config.Timeout }

// get reads what is at a path of the API, such as "namespaces/shop/pods", into the value.
func (c *Client) get(ctx context.Context, path string, query url.Values, into any) error {
	request := c.rest.Get().AbsPath("/api/v1/" + path).MaxRetries(1)
	for name, values := range query {
		for _, value := range values {
			request = request.Param(name, value)
		}
	}
	result := request.Do(ctx)
	if err := result.Error(); err != nil { // Raw does not decode the error of the API server
		return c.explain(err)
	}
	body, err := result.Raw()
	if err != nil {
		return c.explain(err)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("the API server %s answers no JSON for %s: is it one?", c.config.Host, path)
	}
	return nil
}

// list reads all pages of a list.
func list[T any](ctx context.Context, c *Client, path string, query url.Values) (all []T, err error) {
	query.Set("limit", "500")
	for {
		var page struct {
			Metadata struct{ Continue string }
			Items    []T
		}
		if err := c.get(ctx, path, query, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.Metadata.Continue == "" {
			return all, nil
		}
		query.Set("continue", page.Metadata.Continue)
	}
}

// explain makes one line of an error, with what to do.
func (c *Client) explain(err error) error {
	status, answered := errors.AsType[*apierrors.StatusError](err)
	if !answered {
		if urlError, ok := errors.AsType[*url.Error](err); ok {
			err = urlError.Err // without the request
		}
		text := oneLine(err.Error()) // that of a credential plugin has several
		if strings.HasPrefix(text, "getting credentials: ") {
			return fmt.Errorf("the login at the API server %s fails: %s", c.config.Host, text)
		}
		return fmt.Errorf("the API server %s does not answer: %s; kubectl config current-context says which cluster is asked", c.config.Host, text)
	}
	message := oneLine(status.Status().Message)
	switch status.Status().Code {
	case http.StatusForbidden:
		return fmt.Errorf("%w: %s", ErrForbidden, message)
	case http.StatusNotFound:
		return fmt.Errorf("%w: %s", ErrNotFound, message)
	case http.StatusUnauthorized:
		return fmt.Errorf("the API server %s does not accept your login: %s; log in again, as for kubectl", c.config.Host, message)
	}
	return fmt.Errorf("the API server %s answers %d: %s", c.config.Host, status.Status().Code, message)
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
