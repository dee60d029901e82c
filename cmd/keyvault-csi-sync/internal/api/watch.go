package api

import (
	"context"
	"encoding/json"

	"k8s.io/apimachinery/pkg/fields"
)

// Change is what a watch saw of a Secret. Its zero value but for the name stands for a watch that begins: it may have missed changes.
type Change struct {
	Name            string
	UID             string
	ResourceVersion string
	Deleted         bool
}

// Watch reports the changes of one Secret until the watch ends, which the API server lets it do after some time. It gets only metadata. The
// right to watch one name is enough for it.
func (c *Client) Watch(ctx context.Context, name string, report func(Change)) error {
	stream, err := c.secrets(c.rest.Get()).Param("watch", "true").
		Param("fieldSelector", fields.OneTermEqualSelector("metadata.name", name).String()).
		SetHeader("Accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1").Stream(ctx)
	if err != nil {
		return explain("watch", err)
	}
	defer func() { _ = stream.Close() }()
	report(Change{Name: name})
	decoder := json.NewDecoder(stream)
	for {
		var event struct {
			Type   string
			Object struct {
				Metadata struct{ UID, ResourceVersion string }
			}
		}
		if decoder.Decode(&event) != nil || event.Type == "ERROR" {
			return nil
		}
		report(Change{Name: name, UID: event.Object.Metadata.UID, ResourceVersion: event.Object.Metadata.ResourceVersion, Deleted: event.Type == "DELETED"})
	}
}
