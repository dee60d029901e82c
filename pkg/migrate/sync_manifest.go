package migrate

import (
	"cmp"
	"strings"

	"go.yaml.in/yaml/v3"
)

func list(nodes ...*yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: nodes}
}

// words makes a list of texts on one line.
func words(values ...string) *yaml.Node {
	node := list()
	node.Style = yaml.FlowStyle
	for _, value := range values {
		node.Content = append(node.Content, scalar(value))
	}
	return node
}

func number(value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: value}
}

// syncDocuments are the objects of keyvault-csi-sync, as its chart makes them.
func (c *class) syncDocuments(image string) []*yaml.Node {
	name := c.syncName()
	object := func(version, kind string) *yaml.Node {
		metadata := mapping("name", name)
		if c.namespace != "" {
			put(metadata, "namespace", c.namespace)
		}
		return mapping("apiVersion", version, "kind", kind, "metadata", metadata)
	}
	account := object("v1", "ServiceAccount")
	put(account, "automountServiceAccountToken", boolean("false"))

	config := object("v1", "ConfigMap")
	text := scalar(strings.Join(inBlock(mapping("secrets", c.sync.secrets)), "\n") + "\n")
	text.Style = yaml.LiteralStyle
	put(config, "data", mapping("secrets.yaml", text))

	names := words()
	for _, secret := range c.sync.secrets.Content {
		names.Content = append(names.Content, scalar(text1(get(secret, "name"))))
	}
	const rbac = "rbac.authorization.k8s.io"
	role := object(rbac+"/v1", "Role")
	put(role, "rules", list(
		mapping("apiGroups", words(""), "resources", words("secrets"), "verbs", words("get", "watch", "create", "patch"), "resourceNames", names),
		mapping("apiGroups", words(""), "resources", words("events"), "verbs", words("create"))))

	binding := object(rbac+"/v1", "RoleBinding")
	put(binding, "roleRef", mapping("apiGroup", rbac, "kind", "Role", "name", name))
	put(binding, "subjects", list(mapping("kind", "ServiceAccount", "name", name, "namespace", cmp.Or(c.namespace, noNamespace))))

	deployment := object("apps/v1", "Deployment")
	put(deployment, "spec", c.syncDeployment(name, image))
	return []*yaml.Node{account, config, role, binding, deployment}
}

// syncDeployment is the spec of the Deployment: one pod, which passes the Pod Security Standard restricted.
func (c *class) syncDeployment(name, image string) *yaml.Node {
	labels := func() *yaml.Node {
		return mapping("app.kubernetes.io/name", "keyvault-csi-sync", "app.kubernetes.io/instance", name)
	}
	probe := func(path, seconds string) *yaml.Node {
		return mapping("httpGet", mapping("path", path, "port", "http"), "periodSeconds", number(seconds))
	}
	mount := func(volume, path string) *yaml.Node {
		return mapping("name", volume, "mountPath", path, "readOnly", boolean("true"))
	}
	container := mapping("name", "sync", "image", image, "args", words("--name="+name),
		"ports", list(mapping("name", "http", "containerPort", number("9809"))),
		"livenessProbe", probe("/healthz", "30"), "readinessProbe", probe("/readyz", "2"),
		"resources", mapping("requests", mapping("cpu", "5m", "memory", "24Mi"), "limits", mapping("memory", "64Mi")),
		"securityContext", mapping("allowPrivilegeEscalation", boolean("false"), "readOnlyRootFilesystem", boolean("true"),
			"capabilities", mapping("drop", words("ALL"))),
		"volumeMounts", list(mount("secrets", "/secrets"), mount("config", "/etc/keyvault-csi-sync")))
	spec := mapping("serviceAccountName", name, "automountServiceAccountToken", boolean("true"), "enableServiceLinks", boolean("false"),
		"securityContext", mapping("runAsNonRoot", boolean("true"), "seccompProfile", mapping("type", "RuntimeDefault")),
		"containers", list(container),
		"volumes", list(mapping("name", "secrets", "csi", c.sync.settings.csi()), mapping("name", "config", "configMap", mapping("name", name))))
	return mapping("replicas", number("1"), "strategy", mapping("type", "Recreate"), "selector", mapping("matchLabels", labels()),
		"template", mapping("metadata", mapping("labels", labels()), "spec", spec))
}
