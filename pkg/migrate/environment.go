package migrate

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The agent's variables.
const (
	varVault       = "VAULT_BASE_URL"
	varFolder      = "SECRETS_FOLDER"
	varSecrets     = "SECRETS_KEYS"
	varCerts       = "CERTS_KEYS"
	varCAs         = "DOWNLOAD_CA_CERTIFICATES"
	varCASuffix    = "_DOWNLOAD_CA_CERTIFICATE" // after a secret's name in upper case; singular, unlike varCAs
	varSavePFX     = "SAVE_PFX"
	varKubernetes  = "CREATE_KUBERNETES_SECRETS"
	varUseMSI      = "USE_MSI"
	varMSIClient   = "MSI_CLIENT_ID"
	varMSIObject   = "MSI_OBJECT_ID"
	varMSIResource = "MSI_RESOURCE_ID"
	varUseEnv      = "USE_ENV"
	varTenant      = "TENANT_ID"
	varClient      = "CLIENT_ID"
	varClientKey   = "CLIENT_SECRET"
	varFile        = "SERVICE_PRINCIPLE_FILE_PATH"
	varDetect      = "AUTO_DETECT_AAD_TENANT"
	varAuthority   = "AZURE_AUTHORITY_SERVER"
	varTimeout     = "TIMEOUT"
)

var agentVariables = []string{
	varVault, varFolder, varSecrets, varCerts, varCAs, varSavePFX, varKubernetes, varUseMSI, varMSIClient, varMSIObject,
	varMSIResource, varUseEnv, varTenant, varClient, varClientKey, varFile, varDetect, varAuthority, varTimeout,
}

// variable is one environment variable of a container.
type variable struct {
	node                  *yaml.Node
	value                 string
	from                  string // the source of a value that is not in the manifest: "the ConfigMap \"x\""
	secretName, secretKey string // a key of a Secret
}

// environment is the variables of an agent, as Kubernetes sets them: the last of a name wins.
type environment struct {
	plan      *plan
	container container
	variables map[string]variable
	order     []string
	used      map[string]bool
}

func readEnvironment(p *plan, c container) *environment {
	e := &environment{plan: p, container: c, variables: map[string]variable{}, used: map[string]bool{}}
	if from, _ := items(get(c.node, "envFrom")); len(from) > 0 {
		for _, source := range from {
			p.problem(source, "%s takes variables from %s (envFrom), whose content is not known here; write them under env", c, origin(source))
		}
	}
	nodes, _ := items(get(c.node, "env"))
	for _, node := range nodes {
		name := text1(get(node, "name"))
		v := variable{node: node, value: text1(get(node, "value"))}
		if from := get(node, "valueFrom"); from != nil {
			v.from = origin(from)
			if key := get(from, "secretKeyRef"); key != nil {
				v.secretName, v.secretKey = text1(get(key, "name")), text1(get(key, "key"))
			}
		} else {
			v.value, v.from = e.expand(v.value)
		}
		e.variables[name] = v
		e.order = append(e.order, name)
	}
	return e
}

// origin returns the source of a variable's value.
func origin(from *yaml.Node) string {
	for _, kind := range []struct{ field, name string }{
		{"configMapKeyRef", "the ConfigMap"}, {"configMapRef", "the ConfigMap"},
		{"secretKeyRef", "the Secret"}, {"secretRef", "the Secret"},
	} {
		if ref := get(from, kind.field); ref != nil {
			return kind.name + " " + quote(printable(text1(get(ref, "name"))))
		}
	}
	if field := get(from, "fieldRef", "fieldPath"); field != nil {
		return "the pod's field " + printable(field.Value)
	}
	return "a place that kvcsi does not know"
}

var reference = regexp.MustCompile(`\$\$|\$\([-._a-zA-Z0-9]+\)`)

// expand replaces $(NAME) by an earlier variable, as Kubernetes does. An unknown one stays, and $$ is $.
func (e *environment) expand(value string) (expanded, from string) {
	expanded = reference.ReplaceAllStringFunc(value, func(match string) string {
		if match == "$$" {
			return "$"
		}
		name := match[2 : len(match)-1]
		v, known := e.variables[name]
		e.used[name] = true
		switch {
		case !known: // it stays as it is, so the agent would use it as it is
			from = "the variable " + name + ", which is not set before it"
			return match
		case v.from != "":
			from = v.from
		}
		return v.value
	})
	return expanded, from
}

// get reads a variable. It is a problem if its value is not in the manifest.
func (e *environment) get(name string) (value string, given bool) {
	v, given := e.variables[name]
	e.used[name] = true
	if given && v.from != "" {
		e.plan.problem(v.node, "%s of %s comes from %s, and a volume's attributes are plain text; write the value", name, e.container, v.from)
	}
	return v.value, given
}

// isTrue reads a variable as the agent does: only the word true, in any case.
func (e *environment) isTrue(name string, fallback bool) bool {
	value, given := e.get(name)
	if !given {
		return fallback
	}
	if isPlaceholder(value) {
		e.plan.problem(e.variables[name].node, "%s of %s is %s: its value decides what is written; write it, or "+buildOrRender, name, e.container, printable(value))
	}
	return strings.EqualFold(value, "true")
}

// ignored reports the variables that were not read.
func (e *environment) ignored() {
	var names []string
	for _, name := range slices.Compact(slices.Sorted(slices.Values(e.order))) {
		if e.used[name] || slices.Contains(agentVariables, name) {
			continue // variables of the agent that have no effect in it either
		}
		if strings.HasSuffix(strings.ToLower(name), "_proxy") {
			e.plan.note(e.variables[name].node, "%s of %s is the driver's business now: set it where the driver is installed", name, e.container)
			continue
		}
		names = append(names, printable(name))
	}
	if len(names) > 0 {
		e.plan.note(e.container.node, "%s goes with its variables %s, which had no effect on the files", e.container, strings.Join(names, ", "))
	}
}

// login is a variable of USE_ENV.
func (e *environment) login(name string) (v variable, ok bool) {
	v, given := e.variables[name]
	e.used[name] = true
	switch {
	case !given:
		e.plan.problem(e.container.node, "%s has %s but no %s", e.container, varUseEnv, name)
	case v.from != "" && v.secretName == "":
		e.plan.problem(v.node, "%s of %s comes from %s; put it into a Secret", name, e.container, v.from)
	case v.from == "" && v.value == "":
		e.plan.problem(v.node, "%s of %s is empty", name, e.container)
	default:
		return v, true
	}
	return v, false
}

// secretCommand returns the command that makes a Secret from keys of others.
func secretCommand(namespace, name string, keys []loginKey) string {
	in := ""
	if namespace != "" {
		in = " -n " + namespace
	}
	var b strings.Builder
	fmt.Fprintf(&b, "kubectl create secret generic %s%s", name, in)
	for _, k := range keys {
		fmt.Fprintf(&b, ` --from-literal=%s="$(kubectl get secret %s%s -o 'go-template={{index .data %q | base64decode}}')"`,
			k.key, k.secretName, in, k.secretKey)
	}
	return b.String()
}
