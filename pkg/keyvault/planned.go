package keyvault

import (
	"slices"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Planned is one request of [Client.Fetch] to a vault.
type Planned struct {
	URL      string   // without the query
	List     bool     // of names or versions: each that matches is then read
	Optional bool     // every object that needs it is
	Objects  []string // their Sources
}

// Plan returns the distinct requests that Fetch sends for a request without a cached value, in its order: lists first.
func Plan(r volume.Request) (all []Planned) {
	lists, objects := []volume.Object{}, []volume.Object{}
	for _, object := range r.Objects {
		if object.IsList() {
			lists = append(lists, object)
		} else {
			objects = append(objects, object)
		}
	}
	for _, some := range [][]volume.Object{lists, objects} {
		for _, read := range plan(some) {
			planned := Planned{URL: read.request.URL(), List: read.object().IsList(), Optional: read.optional}
			for _, object := range read.objects {
				if !slices.Contains(planned.Objects, object.Source) {
					planned.Objects = append(planned.Objects, object.Source)
				}
			}
			all = append(all, planned)
		}
	}
	return all
}
