package migrate

import (
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// settings is a new volume of this driver: its attributes in the order in which they are written, and the Secret.
type settings struct {
	names  []string
	values map[string]string

	secretRef string     // nodePublishSecretRef; empty if there is none
	secret    *yaml.Node // the Secret as an object, if all of it is in the manifests
	namespace string     // of the secret
}

func (s *settings) set(name, value string) {
	if s.values == nil {
		s.values = map[string]string{}
	}
	if _, there := s.values[name]; !there {
		s.names = append(s.names, name)
	}
	s.values[name] = value
}

func (s *settings) secretKey() string { return s.namespace + "/" + s.secretRef }

// csi returns the source of the volume.
func (s *settings) csi() *yaml.Node {
	csi := mapping("driver", DriverName, "readOnly", boolean("true"))
	if s.secretRef != "" {
		put(csi, "nodePublishSecretRef", mapping("name", s.secretRef))
	}
	put(csi, "volumeAttributes", s.attributes())
	return csi
}

func (s *settings) attributes() *yaml.Node {
	attributes := mapping()
	for _, name := range s.names {
		value := scalar(s.values[name])
		if strings.Contains(value.Value, "\n") {
			value.Style = yaml.LiteralStyle
		}
		put(attributes, name, value)
	}
	return attributes
}

// readSettings turns the agent's variables into attributes. Those that it cannot migrate become problems of the plan.
func (m *migration) readSettings(p *plan, c container, env *environment) settings {
	var s settings
	vault, given := env.get(varVault)
	if !given {
		p.problem(c.node, "%s has no %s", c, varVault)
	}
	s.set(volume.AttributeVault, strings.TrimRight(vault, "/"))
	m.readIdentity(p, c, env, &s)
	names, all := readLists(p, c, env, &s)
	readCertificates(p, c, env, &s, names, all)
	readTimeout(p, env, &s)
	if host, given := env.get(varAuthority); given {
		authorityNote(p, env, host)
	}
	env.get(varFolder)
	env.get(varKubernetes)
	if !p.blocked {
		env.ignored()
		p.check(c.node, &s)
	}
	return s
}

// readLists migrates what is fetched. To the agent, no list means everything, and an empty one nothing.
func readLists(p *plan, c container, env *environment, s *settings) (names []string, all bool) {
	list, given := env.get(varSecrets)
	certificates, _ := env.get(varCerts)
	names = segments(list)
	switch {
	case !given:
		s.set(volume.AttributeSecrets, "*")
		if certificates != "" {
			p.note(c.node, "%s has %s without %s, so it fetched every secret of the vault too; if nobody needs them, set the attribute secrets to \"\"",
				c, varCerts, varSecrets)
		}
		return nil, true
	case len(names) == 1 && names[0] == "*":
		p.problem(c.node, "%s asks for a secret of the name \"*\", which no vault can hold", c)
	default:
		s.set(volume.AttributeSecrets, tidy(list))
	}
	if len(segments(certificates)) > 0 {
		s.set(volume.AttributeCertificates, tidy(certificates))
	}
	return names, false
}

// segments returns the first parts of the entries of a list in the agent's grammar.
func segments(list string) (names []string) {
	for segment := range strings.SplitSeq(list, ";") {
		if segment = strings.TrimSpace(segment); segment != "" {
			name, _, _ := strings.Cut(segment, ":")
			names = append(names, name)
		}
	}
	return names
}

// tidy removes white space around the entries of a list. A list of several lines keeps its lines.
func tidy(list string) string {
	var kept []string
	for segment := range strings.SplitSeq(list, ";") {
		if segment = strings.TrimSpace(segment); segment != "" {
			kept = append(kept, segment)
		}
	}
	separator := ";"
	if strings.Contains(strings.TrimSpace(list), "\n") {
		separator = ";\n"
	}
	return strings.Join(kept, separator)
}

// readCertificates migrates how certificates are written.
func readCertificates(p *plan, c container, env *environment, s *settings, names []string, all bool) {
	if !env.isTrue(varCAs, true) {
		s.set(volume.AttributeDownloadCA, "false")
	}
	listed := map[string]bool{}
	for _, name := range names {
		listed[strings.ToUpper(name)] = true
	}
	seen := map[string]bool{}
	for _, key := range env.order {
		name, found := strings.CutSuffix(key, varCASuffix)
		if !found || seen[key] {
			continue
		}
		seen[key] = true
		value := strconv.FormatBool(env.isTrue(key, true))
		if !all && !listed[name] || name != strings.ToUpper(name) || !volume.ValidName(name) {
			p.note(env.variables[key].node, "%s of %s names no secret that is fetched (the agent wants the name in upper case, hyphens kept); it had no effect and goes",
				printable(key), c)
			continue
		}
		s.set(volume.AttributeDownloadCAPrefix+strings.ToLower(name), value)
	}
	if env.isTrue(varSavePFX, false) {
		s.set(volume.AttributeSavePFX, "true")
	}
}

// readTimeout migrates the seconds. The agent's default of 300 needs no attribute, because the kubelet repeats a publish.
func readTimeout(p *plan, env *environment, s *settings) {
	text, given := env.get(varTimeout)
	if !given {
		return
	}
	seconds, err := strconv.Atoi(strings.TrimSpace(text))
	at := env.variables[varTimeout].node
	switch limit := int(volume.MaxTimeout / time.Second); {
	case err != nil:
		p.problem(at, "%s %s is not a number of seconds", varTimeout, quote(printable(text)))
	case seconds <= 0:
		p.note(at, "%s %d goes; the default is %s", varTimeout, seconds, volume.DefaultTimeout)
	case seconds > limit:
		s.set(volume.AttributeTimeout, volume.MaxTimeout.String())
		p.note(at, "%s %d becomes %s, the longest that one call of the kubelet may take; the kubelet calls again", varTimeout, seconds, volume.MaxTimeout)
	default:
		s.set(volume.AttributeTimeout, strconv.Itoa(seconds)+"s")
	}
}

// authorityNote reports the variable that is a setting of the driver and not of a volume.
func authorityNote(p *plan, env *environment, host string) {
	at := env.variables[varAuthority].node
	authority := strings.TrimSuffix(strings.TrimPrefix(strings.ToLower(host), "https://"), "/")
	for _, cloud := range clouds {
		if authority == cloud.authority {
			if cloud.name != publicCloud {
				p.note(at, "%s: install the driver with --cloud %s", varAuthority, cloud.name)
			}
			return
		}
	}
	p.note(at, "%s: install the driver with --authority-host %s", varAuthority, printable(host))
}

const publicCloud = "AzurePublicCloud"

// clouds are the clouds that a manifest may name.
var clouds = []struct{ name, suffix, authority string }{
	{publicCloud, "vault.azure.net", "login.microsoftonline.com"},
	{"AzureUSGovernmentCloud", "vault.usgovcloudapi.net", "login.microsoftonline.us"},
	{"AzureChinaCloud", "vault.azure.cn", "login.chinacloudapi.cn"},
}
