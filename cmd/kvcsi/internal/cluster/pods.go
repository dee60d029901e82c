package cluster

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/url"
	"path"
	"strings"
	"time"
)

// Pod has the fields of a pod that a volume of the driver depends on.
type Pod struct {
	Metadata struct {
		Name, Namespace, UID string
		CreationTimestamp    time.Time
		DeletionTimestamp    *time.Time
	}
	Spec struct {
		NodeName, ServiceAccountName string
		SecurityContext              struct{ FSGroup *int64 }
		Containers                   []Container
		Volumes                      []Volume
	}
	Status struct{ Phase string }
}

// Container has the fields of a container by which the driver's is known.
type Container struct {
	Args  []string
	Ports []struct {
		Name          string
		ContainerPort int
	}
	VolumeMounts    []struct{ Name, MountPath string }
	SecurityContext struct{ Privileged bool }
}

// Volume is a volume of a pod: inline CSI, or a ConfigMap.
type Volume struct {
	Name      string
	ConfigMap *struct {
		Name  string
		Items []struct{ Key, Path string }
	}
	CSI *CSI
}

// CSI is an inline CSI volume, with the names of the API.
type CSI struct {
	Driver               string            `json:"driver"`
	ReadOnly             *bool             `json:"readOnly,omitempty"`
	NodePublishSecretRef *Reference        `json:"nodePublishSecretRef,omitempty"`
	VolumeAttributes     map[string]string `json:"volumeAttributes,omitempty"`
}

// Reference names an object of the namespace.
type Reference struct {
	Name string `json:"name"`
}

// Ended reports whether the pod has ended, so that its volumes are unmounted.
func (p Pod) Ended() bool { return p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed" }

// VolumesOf returns the inline volumes of a driver.
func (p Pod) VolumesOf(driver string) (of []Volume) {
	for _, v := range p.Spec.Volumes {
		if v.CSI != nil && v.CSI.Driver == driver {
			of = append(of, v)
		}
	}
	return of
}

// VolumeID is the kubelet's id of an inline volume (makeVolumeHandle in pkg/volume/csi of Kubernetes).
func (p Pod) VolumeID(volume string) string {
	return fmt.Sprintf("csi-%x", sha256.Sum256([]byte(p.Metadata.UID+volume)))
}

// VolumeKey names a volume of the pod in the cluster.
func (p Pod) VolumeKey(volume string) string {
	return p.Metadata.Namespace + "/" + p.Metadata.UID + "/" + volume
}

// namespaced is the path of a resource; an empty namespace means all.
func namespaced(namespace, resource string) string {
	if namespace == "" {
		return resource
	}
	return "namespaces/" + url.PathEscape(namespace) + "/" + resource
}

// Pods lists the pods of a namespace, or of all if it is empty.
func (c *Client) Pods(ctx context.Context, namespace, selector string) ([]Pod, error) {
	query := url.Values{}
	if selector != "" {
		query.Set("labelSelector", selector)
	}
	return list[Pod](ctx, c, namespaced(namespace, "pods"), query)
}

// Pod reads one pod.
func (c *Client) Pod(ctx context.Context, namespace, name string) (p Pod, err error) {
	err = c.get(ctx, namespaced(namespace, "pods/"+url.PathEscape(name)), nil, &p)
	return p, err
}

// Event is a FailedMount event of a pod.
type Event struct {
	InvolvedObject struct{ Namespace, UID string }
	Message        string
	LastTimestamp  *time.Time
	EventTime      *time.Time
	Series         *struct{ LastObservedTime *time.Time }
}

// Time is when the event was last observed.
func (e Event) Time() (last time.Time) {
	times := []*time.Time{e.LastTimestamp, e.EventTime}
	if e.Series != nil {
		times = append(times, e.Series.LastObservedTime)
	}
	for _, t := range times {
		if t != nil && t.After(last) {
			last = *t
		}
	}
	return last
}

// FailedMount returns the name of the volume that could not be mounted, and why; empty if the event is about something else.
func (e Event) FailedMount() (volume, why string) {
	message := strings.TrimPrefix(e.Message, "(combined from similar events): ") // as of client-go
	rest, found := strings.CutPrefix(message, "MountVolume.SetUp failed for volume ")
	if !found {
		return "", ""
	}
	var quoted string
	if n, err := fmt.Sscanf(rest, "%q", &quoted); n != 1 || err != nil {
		return "", ""
	}
	_, why, found = strings.Cut(rest, " desc = ")
	if !found {
		_, why, _ = strings.Cut(rest, " : ")
	}
	return quoted, oneLine(why)
}

// Key names the volume that could not be mounted, as [Pod.VolumeKey] does. The API server checks the namespace, and not the UID.
func (e Event) Key() string {
	volume, _ := e.FailedMount()
	return e.InvolvedObject.Namespace + "/" + e.InvolvedObject.UID + "/" + volume
}

// FailedMounts lists the events of pods with the reason FailedMount.
func (c *Client) FailedMounts(ctx context.Context, namespace string) ([]Event, error) {
	query := url.Values{"fieldSelector": {"involvedObject.kind=Pod,reason=FailedMount"}}
	return list[Event](ctx, c, namespaced(namespace, "events"), query)
}

// ConfigMapKey reads one key of a ConfigMap.
func (c *Client) ConfigMapKey(ctx context.Context, namespace, name, key string) (string, error) {
	var m struct{ Data map[string]string }
	if err := c.get(ctx, namespaced(namespace, "configmaps/"+url.PathEscape(name)), nil, &m); err != nil {
		return "", err
	}
	text, found := m.Data[key]
	if !found {
		return "", fmt.Errorf("%w: the ConfigMap %s/%s has no key %s", ErrNotFound, namespace, name, key)
	}
	return text, nil
}

// Driver is a pod of the driver.
type Driver struct {
	Pod  Pod
	args map[string]string
	port int
	file func(name string) (configMap, key string)
}

// driverLabel is on the pods of the chart, whatever it is called.
const driverLabel = "app.kubernetes.io/component=csi-driver"

// Drivers lists the pods of a driver by the label of the chart and the driver's name, in one namespace or in all. Everyone who may create
// pods can copy both. The driver is privileged because of its mounts, and whoever may create privileged pods controls the node anyway.
func (c *Client) Drivers(ctx context.Context, namespace, name string) ([]Driver, error) {
	pods, err := c.Pods(ctx, namespace, driverLabel)
	if err != nil {
		return nil, err
	}
	var drivers []Driver
	for _, p := range pods {
		for _, container := range p.Spec.Containers {
			if d, ok := driverOf(p, container); ok && container.SecurityContext.Privileged && d.Flag("driver-name", "keyvault-csi.io") == name && !p.Ended() {
				drivers = append(drivers, d)
			}
		}
	}
	return drivers, nil
}

// driverOf knows the driver's container by the flags that the chart always sets.
func driverOf(p Pod, container Container) (d Driver, ok bool) {
	d = Driver{Pod: p, args: map[string]string{}}
	for _, arg := range container.Args {
		name, value, found := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if !found {
			value = "true" // a switch
		}
		d.args[name] = value
	}
	for _, port := range container.Ports {
		if port.Name == "http" {
			d.port = port.ContainerPort
		}
	}
	d.file = func(name string) (configMap, key string) { return configMapOf(p, container, name) }
	_, hasSocket := d.args["kubelet-root"]
	return d, hasSocket
}

// Stays reports whether this pod is the one that stays on its node while the other one is replaced.
func (d Driver) Stays(other Driver) bool {
	mine, theirs := d.Pod.Metadata, other.Pod.Metadata
	if deleted := mine.DeletionTimestamp != nil; deleted != (theirs.DeletionTimestamp != nil) {
		return !deleted
	}
	return mine.CreationTimestamp.After(theirs.CreationTimestamp)
}

// Flag is a flag of the driver.
func (d Driver) Flag(name, fallback string) string {
	if value, given := d.args[name]; given {
		return value
	}
	return fallback
}

// PolicyConfigMap returns the ConfigMap and its key behind --policy-file. file is empty if there is no policy; configMap is empty if the
// file comes from somewhere else.
func (d Driver) PolicyConfigMap() (file, configMap, key string) {
	if file = d.Flag("policy-file", ""); file == "" {
		return "", "", ""
	}
	configMap, key = d.file(file)
	return file, configMap, key
}

func configMapOf(p Pod, container Container, file string) (configMap, key string) {
	for _, mount := range container.VolumeMounts {
		if mount.MountPath != path.Dir(file) {
			continue
		}
		for _, v := range p.Spec.Volumes {
			if v.Name != mount.Name || v.ConfigMap == nil {
				continue
			}
			key = path.Base(file)
			for _, item := range v.ConfigMap.Items {
				if item.Path == key {
					key = item.Key
				}
			}
			return v.ConfigMap.Name, key
		}
	}
	return "", ""
}
