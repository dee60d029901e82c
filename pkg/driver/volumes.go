package driver

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// maxListed bounds the volumes in one answer. A kubelet has a few hundred.
const maxListed = 10000

// Text of 403. Kubernetes decides who may forward a port, which the HTTP port itself cannot.
const onlyForwarded = "forbidden: the volumes are shown only through kubectl port-forward to the pod of the driver, or on its loopback interface"

// listedVolume is one volume of /volumes. It never has a value, a token or an id of Azure that its message does not have.
type listedVolume struct {
	ID      string     `json:"id"` // the kubelet's
	Pod     listedPod  `json:"pod"`
	Fetched *time.Time `json:"fetched,omitempty"` // when the oldest object of the set was fetched; absent if that is not known
	Reason  string     `json:"reason,omitempty"`  // of NodeGetVolumeHealth
	Message string     `json:"message,omitempty"` // the same, one line

	// Certificates are the soonest ends. null: this process has not fetched the set.
	Certificates []listedExpiry `json:"certificates"`
}

type listedPod struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	UID       string `json:"uid,omitempty"`
}

type listedExpiry struct {
	File     string    `json:"file"`
	NotAfter time.Time `json:"notAfter"`
}

// serveVolumes lists the volumes that the kubelet has called for since the start. The port is open to the network of the
// cluster, and names of pods and files are not for everybody. So only a peer on the loopback interface gets them: kubectl
// port-forward connects from inside the network namespace of the pod, and needs the right to do so. The header Host must be of
// the loopback interface too, so that no name of a web site can lead a browser there (DNS rebinding).
func (d *Driver) serveVolumes(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !isLoopback(r.RemoteAddr) || !namesLoopback(r.Host) {
		http.Error(w, onlyForwarded, http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = d.node.writeVolumes(w) // the client is gone
}

// isLoopback reports whether the address, host:port, is of the loopback interface.
func isLoopback(address string) bool {
	peer, err := netip.ParseAddrPort(address)
	return err == nil && peer.Addr().Unmap().IsLoopback()
}

// namesLoopback reports whether the header Host, with or without a port, is one that kubectl port-forward is used with.
func namesLoopback(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	return strings.EqualFold(name, "localhost") || name == "127.0.0.1" || name == "::1"
}

// writeVolumes writes one volume at a time: thousands of messages are many megabytes.
func (n *nodeServer) writeVolumes(w io.Writer) error {
	var ids []string
	for id := range n.volumes.Range {
		ids = append(ids, id.(string))
	}
	slices.Sort(ids)
	left := max(0, len(ids)-maxListed)
	head, err := json.Marshal(struct {
		Driver  string    `json:"driver"`
		Node    string    `json:"node"`
		Version string    `json:"version"`
		Now     time.Time `json:"now"`
		Left    int       `json:"leftOut"`
	}{n.config.Name, n.config.NodeID, n.config.Version, n.now().UTC(), left})
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, strings.TrimSuffix(string(head), "}")+`,"volumes":[`); err != nil {
		return err
	}
	separator := "\n"
	for _, id := range ids[:len(ids)-left] {
		entry, err := json.Marshal(n.listed(id))
		if err != nil {
			return err
		}
		if _, err := io.WriteString(w, separator+string(entry)); err != nil {
			return err
		}
		separator = ",\n"
	}
	_, err = io.WriteString(w, "\n]}\n")
	return err
}

func (n *nodeServer) listed(id string) listedVolume {
	listed := listedVolume{ID: id}
	stored, _ := n.volumes.Load(id)
	health, _ := stored.(volumeHealth)
	listed.Reason, listed.Message = health.reason, health.message
	stored, _ = n.sets.Load(id)
	set, known := stored.(knownSet)
	if !known { // it was unpublished a moment ago
		return listed
	}
	pod := set.subject.Pod
	listed.Pod = listedPod{pod.Namespace, pod.Name, pod.UID}
	if fetched := set.fetched.UTC(); !fetched.IsZero() {
		listed.Fetched = &fetched
	}
	if set.expiries != nil {
		listed.Certificates = []listedExpiry{}
	}
	for _, expiry := range set.expiries {
		listed.Certificates = append(listed.Certificates, listedExpiry{expiry.File, expiry.NotAfter.UTC()})
	}
	return listed
}
