package migrate

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const clusterFile = "/etc/kubernetes/azure.json"

// readIdentity migrates the login, in the agent's order: USE_MSI, then USE_ENV, then the service principal's file.
func (m *migration) readIdentity(p *plan, c container, env *environment, s *settings) {
	switch {
	case env.isTrue(varUseMSI, false):
		m.readManaged(p, c, env, s)
	case env.isTrue(varUseEnv, false):
		m.readServicePrincipal(p, c, env, s)
	default:
		m.readFile(p, c, env, s)
	}
	if env.isTrue(varDetect, false) && s.values[volume.AttributeIdentity] == string(volume.Cluster) {
		s.set(volume.AttributeTenantID, volume.TenantAuto)
	}
}

// readManaged uses the first of the three ids that is present, even if it is empty, as the agent does.
func (m *migration) readManaged(p *plan, c container, env *environment, s *settings) {
	s.set(volume.AttributeIdentity, string(volume.Managed))
	for _, id := range []struct{ variable, attribute string }{
		{varMSIClient, volume.AttributeClientID}, {varMSIObject, volume.AttributeObjectID}, {varMSIResource, volume.AttributeResourceID},
	} {
		if value, given := env.get(id.variable); given {
			if value != "" {
				s.set(id.attribute, value)
			}
			break
		}
	}
	nodeIdentityNote(p, c.node, volume.Managed)
}

func nodeIdentityNote(p *plan, at *yaml.Node, kind volume.IdentityKind) {
	p.note(at, "identity %s is the node's own right: the driver's operator must allow it to the namespace (--policy-file)", kind)
}

// readFile migrates the login by a file of the node.
func (m *migration) readFile(p *plan, c container, env *environment, s *settings) {
	file, given := env.get(varFile)
	if !given || file == "" {
		p.problem(c.node, "%s says neither %s nor %s nor %s, so it has no login", c, varUseMSI, varUseEnv, varFile)
		return
	}
	s.set(volume.AttributeIdentity, string(volume.Cluster))
	mount, rest, ok := c.mountFor(file)
	v, known := p.workload.volume(mount.volume)
	host := get(v.node, "hostPath")
	if !ok || !known || host == nil || mount.expression {
		p.problem(c.node, "%s logs in with the file %s, which is not one of the node's (hostPath); put the service principal into a Secret with the keys clientid, clientsecret and tenantid",
			c, quote(printable(file)))
		return
	}
	path := text1(get(host, "path"))
	for _, part := range []string{mount.sub, rest} {
		if part != "" {
			path = strings.TrimSuffix(path, "/") + "/" + part
		}
	}
	if path != clusterFile {
		p.note(v.node, "the service principal's file is %s: install the driver with --cluster-identity-file %s", printable(path), printable(path))
	}
	nodeIdentityNote(p, c.node, volume.Cluster)
}

// loginKey is a key of the driver's Secret and where its value is now.
type loginKey struct {
	key string // "clientid"
	variable
}

// readServicePrincipal migrates USE_ENV. Plain values become attributes. The rest must be in one Secret with the driver's
// keys: the pod's own if it has them, else a new one.
func (m *migration) readServicePrincipal(p *plan, c container, env *environment, s *settings) {
	s.set(volume.AttributeIdentity, string(volume.ServicePrincipal))
	var keys []loginKey
	for _, v := range []struct{ variable, attribute, key string }{
		{varClient, volume.AttributeClientID, volume.SecretClientID},
		{varTenant, volume.AttributeTenantID, volume.SecretTenantID},
		{varClientKey, "", volume.SecretClientSecret},
	} {
		value, ok := env.login(v.variable)
		switch {
		case !ok:
		case value.from == "" && v.attribute != "":
			s.set(v.attribute, strings.TrimSpace(value.value))
		default:
			keys = append(keys, loginKey{key: v.key, variable: value})
		}
	}
	if p.blocked {
		return
	}
	s.namespace = p.namespace
	first := keys[len(keys)-1]
	if !slices.ContainsFunc(keys, func(k loginKey) bool {
		return k.secretName != first.secretName || k.secretName == "" || !strings.EqualFold(k.secretKey, k.key)
	}) {
		s.secretRef = first.secretName
		return
	}
	s.secretRef = first.secretName + "-keyvault-csi"
	if first.secretName == "" {
		s.secretRef = strings.TrimPrefix(p.name+"-keyvault-csi", "-")
	}
	if s.secret = m.makeSecret(p, s.secretRef, keys); s.secret != nil {
		p.note(c.node, "the login needs a Secret with the keys that this driver reads: %s, written at the end of the file", quote(s.secretRef))
		return
	}
	for _, k := range keys {
		if k.secretName == "" {
			p.problem(k.node, "%s stands in the manifest, and the rest of the login in a Secret; put %s into that Secret as clientsecret", varClientKey, varClientKey)
			return
		}
	}
	p.note(c.node, "the login needs a Secret with the keys that this driver reads; make it with: %s", secretCommand(p.namespace, s.secretRef, keys))
}

// makeSecret returns the new Secret, or nil if one of its values is not in the manifests.
func (m *migration) makeSecret(p *plan, name string, keys []loginKey) *yaml.Node {
	data, plain := mapping(), mapping()
	for _, k := range keys {
		if k.secretName == "" {
			put(plain, k.key, k.value)
			continue
		}
		source := m.secret(p, k.secretName)
		if source == nil {
			return nil
		}
		if value, ok := source.plain[k.secretKey]; ok {
			put(plain, k.key, value)
		} else if value, ok := source.data[k.secretKey]; ok {
			put(data, k.key, value)
		} else {
			return nil
		}
	}
	metadata := mapping("name", name)
	if p.namespace != "" {
		put(metadata, "namespace", p.namespace)
	}
	secret := mapping("apiVersion", "v1", "kind", "Secret", "metadata", metadata, "type", "Opaque")
	if len(data.Content) > 0 {
		put(secret, "data", data)
	}
	if len(plain.Content) > 0 {
		put(secret, "stringData", plain)
	}
	return secret
}

// secretObject is a Secret among the manifests.
type secretObject struct {
	*object
	data, plain map[string]string // as written: data in base64
}

func newSecretObject(o *object) *secretObject {
	s := &secretObject{object: o, data: map[string]string{}, plain: map[string]string{}}
	for field, into := range map[string]map[string]string{"data": s.data, "stringData": s.plain} {
		if node := get(o.node, field); node != nil && node.Kind == yaml.MappingNode {
			for i := 0; i+1 < len(node.Content); i += 2 {
				into[text1(node.Content[i])] = text1(node.Content[i+1])
			}
		}
	}
	return s
}

func (m *migration) secret(p *plan, name string) *secretObject {
	for _, s := range m.secrets {
		if s.name == name && s.sameNamespace(p.object) {
			return s
		}
	}
	return nil
}
