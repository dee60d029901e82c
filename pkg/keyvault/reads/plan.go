package reads

import (
	"slices"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/vault"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// read is one request to a vault on behalf of one or several objects.
type read struct {
	request  vault.Request
	objects  []*volume.Object // that need it
	named    int              // index of the object that errors name
	optional bool             // every object is
	pages    int              // of a list for changes, at most; 0 for anything else

	at       time.Time     // just before the request to the vault, or to a later list that shows no change
	read     time.Time     // just before the request to the vault
	names    []string      // of a list, or the versions of a history
	stamps   []vault.Stamp // of a list, for each name
	reserved bool          // the throttle of the vault has a turn for it
	changed  bool          // a list shows that its last value is not current
	outage   error         // why the value is the last known one
	err      error
}

func (r *read) object() volume.Object { return *r.objects[r.named] }

// plan returns the distinct reads in the order in which the objects first need them.
func plan(objects []volume.Object) (reads []*read) {
	known := make(map[vault.Request]*read, len(objects))
	reads = make([]*read, 0, len(objects))
	add := func(object *volume.Object) {
		request := vault.RequestOf(*object)
		r, ok := known[request]
		if !ok {
			r = &read{request: request, optional: true}
			known[request] = r
			reads = append(reads, r)
		}
		if r.optional && !object.Optional {
			r.named, r.optional = len(r.objects), false // its absence is the error
		}
		r.objects = append(r.objects, object)
	}
	for i := range objects {
		add(&objects[i])
		if password := objects[i].Password; password != nil {
			add(password)
		}
	}
	return reads
}

// Planned is one request of [Fetch.Expand] or [Fetch.Run] to a vault.
type Planned struct {
	URL      string   // without the query
	List     bool     // of names or versions: each that matches is then read
	Optional bool     // every object that needs it is
	Objects  []string // their Sources
}

// Plan returns the distinct requests that a fetch sends without a cached value, in its order: lists first.
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
