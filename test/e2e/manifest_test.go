package e2e

import "cmp"

// volume is a volume of a test, and the pod around it.
type volume struct {
	attributes     map[string]string
	driver         string            // default: the release's
	namespace      string            // default: namespace
	serviceAccount string            // default: web, which the identities trust
	secretRef      string            // nodePublishSecretRef
	fsGroup        int               // of the pod; 0 = none
	subPaths       map[string]string // further mounts: path in the container → subPath of the volume
	args           []string          // of workload hold
	writable       bool              // without readOnly
	root           bool              // runs as uid 0, which the namespace must allow
	capabilities   bool              // default capabilities, and no seccomp profile
	userNamespace  bool              // hostUsers: false
	readOnlyMount  bool              // readOnly of the mount, beside that of the volume
	recursive      bool              // recursiveReadOnly of the mount, which needs readOnlyMount
	emptyDir       bool              // instead of a volume of the driver
	init           bool              // an init container that does nothing
}

// manifest is a pod that the restricted Pod Security Standard allows.
func (p *pod) manifest(v volume) object {
	source := object{"csi": v.csi()}
	if v.emptyDir {
		source = object{"emptyDir": object{}}
	}
	source["name"] = "secrets"
	mount := object{"name": "secrets", "mountPath": mountPath}
	if v.readOnlyMount {
		mount["readOnly"] = true
	}
	if v.recursive {
		mount["recursiveReadOnly"] = "Enabled"
	}
	mounts := []object{mount}
	for at, subPath := range v.subPaths {
		mounts = append(mounts, object{"name": "secrets", "mountPath": at, "subPath": subPath})
	}
	security := object{"runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 1000, "seccompProfile": object{"type": "RuntimeDefault"}}
	if v.root {
		security["runAsNonRoot"], security["runAsUser"], security["runAsGroup"] = false, 0, 0
	}
	drop := []string{"ALL"}
	if v.capabilities {
		drop = nil
		delete(security, "seccompProfile")
	}
	if v.fsGroup != 0 {
		security["fsGroup"] = v.fsGroup
	}
	account := v.serviceAccount
	if account == "" {
		account = "web"
	}
	container := func(name string, args ...string) object {
		return object{
			"name": name, "image": p.testImage, "args": args, "volumeMounts": mounts,
			"securityContext": object{
				"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": object{"drop": drop},
			},
		}
	}
	var initContainers []object
	if v.init {
		initContainers = append(initContainers, container("init", "exit"))
	}
	return object{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": object{"name": p.name},
		"spec": object{
			"serviceAccountName":            account,
			"automountServiceAccountToken":  false,
			"enableServiceLinks":            false,
			"hostUsers":                     !v.userNamespace,
			"terminationGracePeriodSeconds": 5,
			"nodeSelector":                  object{"kubernetes.io/hostname": p.hostname},
			"securityContext":               security,
			"initContainers":                initContainers,
			"containers":                    []object{container("reader", append([]string{"hold"}, v.args...)...)},
			"volumes":                       []object{source},
		},
	}
}

// csi is the volume in the manifest.
func (v volume) csi() object {
	csi := object{"driver": cmp.Or(v.driver, driverName), "readOnly": !v.writable, "volumeAttributes": v.attributes}
	if v.secretRef != "" {
		csi["nodePublishSecretRef"] = object{"name": v.secretRef}
	}
	return csi
}
