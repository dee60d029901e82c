package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"k8s.io/apimachinery/pkg/fields"
)

// ErrExpired is a watch that cannot go on at its resource version, because the API server has forgotten it.
var ErrExpired = errors.New("the resource version of the watch is too old")

// Change is what a watch saw of a Secret. A Change with nothing but a name means that a watch begins, and that earlier changes may
// have been missed.
type Change struct {
	Name            string
	UID             string
	ResourceVersion string
	Deleted         bool
	// Bookmark is set if nothing has changed up to ResourceVersion.
	Bookmark bool
}

// Watch reports the changes of one Secret until the API server ends the watch, which it does after some time. If since is the resource
// version of the last change or bookmark, no change in between is missed. If since is empty, the watch begins now. It gets only metadata.
// The right to watch one name is enough for it.
func (c *Client) Watch(ctx context.Context, name, since string, report func(Change)) error {
	request := c.secrets(c.rest.Get()).Param("watch", "true").Param("allowWatchBookmarks", "true").
		Param("fieldSelector", fields.OneTermEqualSelector("metadata.name", name).String()).
		SetHeader("Accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")
	if since != "" {
		request = request.Param("resourceVersion", since)
	}
	stream, err := request.Stream(ctx)
	if err != nil {
		return explain("watch", err)
	}
	defer func() { _ = stream.Close() }()
	if since == "" {
		report(Change{Name: name})
	}
	decoder := json.NewDecoder(stream)
	for {
		var event struct {
			Type   string
			Object struct {
				Code     int // of an error
				Metadata struct{ UID, ResourceVersion string }
			}
		}
		switch {
		case decoder.Decode(&event) != nil:
			return nil
		case event.Type == "ERROR" && event.Object.Code == http.StatusGone:
			return ErrExpired
		case event.Type == "ERROR":
			return nil
		}
		report(Change{
			Name: name, UID: event.Object.Metadata.UID, ResourceVersion: event.Object.Metadata.ResourceVersion,
			Deleted: event.Type == "DELETED", Bookmark: event.Type == "BOOKMARK",
		})
	}
}
