// Package api reads and writes the Secrets of one namespace at the API server.
//
// It has an error of its own for each answer that needs its own treatment. The texts of its errors never repeat what the API server or an
// admission webhook wrote, because that can quote a Secret.
package api

import (
	"context"
	"encoding/json"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/secret"
)

// timeout bounds each request but a watch.
const timeout = 10 * time.Second

// Client reads and writes the Secrets of a namespace.
type Client struct {
	rest      rest.Interface
	namespace string
}

// New returns a client. It changes the configuration.
func New(config *rest.Config, namespace string) (*Client, error) {
	// Only the errors of the API server are decoded, so that no type of the API is linked.
	scheme := runtime.NewScheme()
	v1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	config.APIPath = "/api"
	config.GroupVersion = &schema.GroupVersion{Version: "v1"}
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	config.QPS = -1                           // there is a request for each change only, one after the other
	config.WarningHandler = rest.NoWarnings{} // they can quote a Secret
	config.DisableCompression = true          // each watch would hold 40 kB to decompress; the requests are small
	config.UserAgent = "keyvault-csi-sync"    // as in the audit log
	client, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, err
	}
	return &Client{rest: client, namespace: namespace}, nil
}

// Get returns the Secret, or nil if there is none.
func (c *Client) Get(ctx context.Context, name string) (*secret.Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	body, err := raw(c.secrets(c.rest.Get()).Name(name).Do(ctx))
	if isMissing(err) {
		return nil, nil //nolint:nilnil // no Secret is an answer
	} else if err != nil {
		return nil, explain("get", err)
	}
	return decode("get", body)
}

// Apply writes the Secret with server-side apply, and returns what is there then. Without force it fails with a Conflict if somebody
// else has written one of the fields since.
func (c *Client) Apply(ctx context.Context, s secret.Secret, force bool) (*secret.Secret, error) {
	body, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	request := c.secrets(c.rest.Patch(types.ApplyYAMLPatchType)).Name(s.Metadata.Name).Param("fieldManager", secret.FieldManager).Body(body)
	if force {
		request = request.Param("force", "true")
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answer, err := raw(request.Do(ctx))
	if err != nil {
		return nil, explain("patch", err)
	}
	return decode("patch", answer)
}

// Release removes the owners of the Secret, if it has not changed since it was read. Server-side apply cannot remove what somebody
// else has written.
func (c *Client) Release(ctx context.Context, s secret.Secret) (*secret.Secret, error) {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": s.Metadata.UID, "resourceVersion": s.Metadata.ResourceVersion, "ownerReferences": nil,
	}})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request := c.secrets(c.rest.Patch(types.MergePatchType)).Name(s.Metadata.Name).Param("fieldManager", secret.FieldManager).Body(patch)
	answer, err := raw(request.Do(ctx))
	if err != nil {
		return nil, explain("patch", err)
	}
	return decode("patch", answer)
}

// metadataOnly asks for objects without their content.
const metadataOnly = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

// List returns the metadata of the Secrets that the keyvault-csi-sync of that name keeps.
func (c *Client) List(ctx context.Context, owner string) ([]secret.Metadata, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request := c.secrets(c.rest.Get()).Param("labelSelector", secret.NameLabel+"="+owner).SetHeader("Accept", metadataOnly)
	body, err := raw(request.Do(ctx))
	if err != nil {
		return nil, explain("list", err)
	}
	var list struct {
		Items []struct{ Metadata secret.Metadata }
	}
	if json.Unmarshal(body, &list) != nil {
		return nil, errNoJSON("list")
	}
	found := make([]secret.Metadata, 0, len(list.Items))
	for _, item := range list.Items {
		found = append(found, item.Metadata)
	}
	return found, nil
}

// Delete deletes exactly the Secret whose metadata were read.
func (c *Client) Delete(ctx context.Context, m secret.Metadata) error {
	body, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "DeleteOptions",
		"preconditions": map[string]string{"uid": m.UID, "resourceVersion": m.ResourceVersion},
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err = c.secrets(c.rest.Delete()).Name(m.Name).Body(body).Do(ctx).Error()
	if isMissing(err) {
		return nil
	}
	return explain("delete", err)
}

func (c *Client) secrets(r *rest.Request) *rest.Request {
	return r.Namespace(c.namespace).Resource("secrets").MaxRetries(0)
}

// raw returns the answer. Error decodes the error of the API server, which Raw does not.
func raw(r rest.Result) ([]byte, error) {
	if err := r.Error(); err != nil {
		return nil, err
	}
	return r.Raw()
}

func decode(verb string, body []byte) (*secret.Secret, error) {
	var s secret.Secret
	if json.Unmarshal(body, &s) != nil {
		return nil, errNoJSON(verb)
	}
	return &s, nil
}
