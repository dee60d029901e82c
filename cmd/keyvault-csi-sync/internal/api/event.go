package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"

	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/secret"
)

// Event is an event about a Secret.
type Event struct {
	Secret       string // its name
	UID          string // empty if there is no Secret
	Warning      bool
	Reason, Text string
}

// Emit creates an event of that time, which is a part of its name: an event whose answer was lost is not created twice.
func (c *Client) Emit(ctx context.Context, e Event, now time.Time) error {
	kind := "Normal"
	if e.Warning {
		kind = "Warning"
	}
	at := now.UTC().Format(time.RFC3339)
	body, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Event",
		"metadata":       map[string]any{"name": eventName(e.Secret, now), "namespace": c.namespace},
		"involvedObject": map[string]any{"apiVersion": "v1", "kind": "Secret", "name": e.Secret, "namespace": c.namespace, "uid": e.UID},
		"type":           kind, "reason": e.Reason, "message": e.Text,
		"source":         map[string]any{"component": secret.FieldManager},
		"firstTimestamp": at, "lastTimestamp": at, "count": 1,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err = c.events(c.rest.Post()).Body(body).Do(ctx).Error()
	var status apierrors.APIStatus
	switch {
	case err == nil, apierrors.IsAlreadyExists(err):
		return nil
	case errors.As(err, &status): // its message can be that of a webhook
		return fmt.Errorf("create events: the API server answers %d %s", status.Status().Code, status.Status().Reason)
	default:
		return unreachable("create", "events", err)
	}
}

// eventName is the name of the Secret, cut so that it fits into a name of Kubernetes, with the time.
func eventName(secret string, at time.Time) string {
	end := fmt.Sprintf(".%x", at.UnixNano())
	return strings.TrimRight(secret[:min(len(secret), longestName-len(end))], "-.") + end
}

// longestName is that of a DNS subdomain, which most objects of Kubernetes have as their name (RFC 1123).
const longestName = 253

func (c *Client) events(r *rest.Request) *rest.Request {
	return r.Namespace(c.namespace).Resource("events").MaxRetries(0)
}
